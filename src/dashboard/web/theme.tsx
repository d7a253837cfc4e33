import { useState } from 'preact/hooks';

type Theme = 'dark' | 'light';

const system = (): Theme => (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');

function chosen(): Theme | undefined {
  const { theme } = document.documentElement.dataset;
  return theme === 'dark' || theme === 'light' ? theme : undefined;
}

/** The system's theme until another one is chosen; choosing the system's again follows it again. */
export function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(chosen() ?? system());
  const other: Theme = theme === 'dark' ? 'light' : 'dark';
  const toggle = (): void => {
    const { dataset } = document.documentElement;
    if (other === system()) delete dataset['theme'];
    else dataset['theme'] = other;
    try {
      if (other === system()) localStorage.removeItem('theme');
      else localStorage.setItem('theme', other);
    } catch {
      // Storage may be forbidden; then the choice lasts as long as the page.
    }
    setTheme(other);
  };
  return (
    <button type="button" class="small" onClick={toggle} aria-label={`use the ${other} theme`}>
      {other === 'dark' ? 'Dark' : 'Light'}
    </button>
  );
}
