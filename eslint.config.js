import js from '@eslint/js';
import tseslint from 'typescript-eslint';

// Imports point one way: contracts <- platform <- {text, plan, batch} <- rooms <- cli, and rooms
// never import each other. Each folder lists what it may import beside itself.
const may = {
  contracts: [],
  platform: ['contracts'],
  text: ['contracts', 'platform'],
  plan: ['contracts', 'platform'],
  batch: ['contracts', 'platform'],
  producer: ['contracts', 'platform', 'text', 'plan', 'batch'],
  'gpu-worker': ['contracts', 'platform', 'text', 'plan', 'batch'],
  aggregator: ['contracts', 'platform', 'text', 'plan', 'batch'],
  dashboard: ['contracts', 'platform', 'text', 'plan', 'batch'],
  // It submits over HTTP what the command line submits from a file.
  gateway: ['contracts', 'platform', 'text', 'plan', 'batch', 'producer'],
  // The command line's producer side, for programs.
  library: ['contracts', 'platform', 'text', 'plan', 'batch', 'producer'],
  eval: ['contracts', 'platform', 'text', 'plan', 'batch'],
  local: ['contracts', 'platform'],
};
const folders = [...Object.keys(may), 'cli'];
const direction = Object.entries(may).map(([folder, allowed]) => ({
  files: [`src/${folder}/**/*.{ts,tsx}`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(${folders.filter((f) => f !== folder && !allowed.includes(f)).join('|')})/`,
            message: `src/${folder} may only import ${[...allowed, 'itself'].join(', ')}.`,
          },
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['dist', 'build', 'node_modules', '.longhaul', 'coverage'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: {
          allowDefaultProject: [
            '*.js',
            'bin/*.js',
            'bench/*.js',
            'bench/simulate/*.js',
            'infra/*.js',
            'test/gpu/*.js',
            'examples/*/*.js',
          ],
        },
      },
    },
    rules: {
      eqeqeq: 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['src/**/*.{ts,tsx}'],
    ignores: ['src/platform/config.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "MemberExpression[object.name='process'][property.name='env']",
          message: 'Configuration is read once, in src/platform/config.ts.',
        },
      ],
    },
  },
  {
    files: ['**/*.js'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
  {
    files: ['src/dashboard/web/public/*.js'],
    languageOptions: { globals: { localStorage: 'readonly', document: 'readonly' } },
  },
  ...direction,
);
