import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';

const changed = new EventTarget();

/** Goes to a page of ours without loading it anew. */
export function go(to: string): void {
  history.pushState(null, '', to);
  scrollTo(0, 0);
  changed.dispatchEvent(new Event('change'));
}

/** Changes the query of the present page: filters and pages of tables can be linked to. */
export function setQuery(change: Record<string, string>): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) {
    if (value === '') query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, '', location.pathname + (text === '' ? '' : `?${text}`));
  changed.dispatchEvent(new Event('change'));
}

export function useLocation(): { path: string; query: URLSearchParams } {
  const [, redraw] = useState(0);
  useEffect(() => {
    const follow = () => {
      redraw((n) => n + 1);
    };
    changed.addEventListener('change', follow);
    addEventListener('popstate', follow);
    return () => {
      changed.removeEventListener('change', follow);
      removeEventListener('popstate', follow);
    };
  }, []);
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

interface LinkProps {
  to: string;
  class?: string;
  title?: string;
  current?: boolean;
  children: ComponentChildren;
}

export function Link({ to, current, children, ...rest }: LinkProps) {
  const onClick = (event: MouseEvent): void => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(to);
  };
  return (
    <a href={to} onClick={onClick} aria-current={current === true ? 'page' : undefined} {...rest}>
      {children}
    </a>
  );
}

export const batchPath = (id: string): string => `/batches/${encodeURIComponent(id)}`;
export const documentPath = (id: string, item: number): string => `${batchPath(id)}/documents/${item}`;
