import { defineConfig } from 'vite';

// The dashboard's page, into dist/ beside its server.
export default defineConfig({
  root: 'src/dashboard/web',
  // Names with a hash, so that they may be kept for ever; nothing inlined, which the page's policy forbids.
  build: {
    outDir: '../../../dist/dashboard/web',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
