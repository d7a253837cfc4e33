/** A long list: what of it the address asks for, how to ask for something else, and which page of it is shown. */
import { useEffect, useState } from 'preact/hooks';
import { count } from './format.js';
import { setQuery, useLocation } from './router.js';

const PAUSE_MS = 250;

/** Asks once the person has paused. */
function Search(props: { value: string; label: string; onChange: (text: string) => void }) {
  const { value, label, onChange } = props;
  const [text, setText] = useState(value);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => {
      onChange(text);
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [text]);
  return (
    <input
      type="search"
      aria-label={label}
      placeholder={label}
      value={text}
      onInput={(event) => {
        setText(event.currentTarget.value);
      }}
    />
  );
}

function Select(props: {
  label: string;
  value: string;
  options: string[];
  onChange: (value: string) => void;
}) {
  return (
    <select
      aria-label={props.label}
      value={props.value}
      onChange={(event) => {
        props.onChange(event.currentTarget.value);
      }}
    >
      <option value="">any {props.label.toLowerCase()}</option>
      {props.options.map((option) => (
        <option key={option} value={option}>
          {option.replaceAll('_', ' ')}
        </option>
      ))}
    </select>
  );
}

export interface Listing {
  offset: number;
  state: string;
  search: string;
  /** The same as a query of the server's, with how many rows at the most. */
  asked: string;
}

export function useListing(limit: number): Listing {
  const { query } = useLocation();
  const offset = Number(query.get('offset') ?? 0);
  const state = query.get('state') ?? '';
  const search = query.get('search') ?? '';
  const asked = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  if (state !== '') asked.set('state', state);
  if (search !== '') asked.set('search', search);
  return { offset, state, search, asked: asked.toString() };
}

export function Filters(props: { listing: Listing; label: string; states: string[] }) {
  const { listing, label, states } = props;
  return (
    <div class="filters">
      <Search
        value={listing.search}
        label={label}
        onChange={(search) => {
          setQuery({ search, offset: '' });
        }}
      />
      <Select
        label="State"
        value={listing.state}
        options={states}
        onChange={(state) => {
          setQuery({ state, offset: '' });
        }}
      />
    </div>
  );
}

/** Which rows of a list are shown, and a way to the others. */
export function Pager(props: { offset: number; limit: number; total: number; what: string }) {
  const { offset, limit, total, what } = props;
  const last = Math.min(total, offset + limit);
  const go = (to: number): void => {
    setQuery({ offset: to === 0 ? '' : String(to) });
  };
  return (
    <nav class="pager" aria-label={`pages of ${what}`}>
      <span>
        {total === 0 ? `no ${what}` : `${count(offset + 1)}–${count(last)} of ${count(total)} ${what}`}
      </span>
      <span class="buttons">
        <button
          type="button"
          disabled={offset === 0}
          onClick={() => {
            go(0);
          }}
        >
          First
        </button>
        <button
          type="button"
          disabled={offset === 0}
          onClick={() => {
            go(Math.max(0, offset - limit));
          }}
        >
          Previous
        </button>
        <button
          type="button"
          disabled={last >= total}
          onClick={() => {
            go(offset + limit);
          }}
        >
          Next
        </button>
      </span>
    </nav>
  );
}
