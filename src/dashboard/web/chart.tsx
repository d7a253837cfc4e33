/** Lines over time, drawn as SVG: a few hundred points, themed by the style sheet, told to screen readers. */
import { useEffect, useRef, useState } from 'preact/hooks';

export interface Series {
  name: string;
  /** Class of the line. */
  kind: string;
  values: (number | null)[];
}

interface ChartProps {
  title: string;
  /** Unix seconds of each point. */
  times: number[];
  series: Series[];
  format: (value: number) => string;
  /** Of the axis; `format` unless given. */
  tick?: (value: number) => string;
}

const HEIGHT = 132;
const PAD = { top: 8, right: 4, bottom: 18, left: 46 };

/** The least of 1, 2, 5 times a power of ten that is not below. */
function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10;
  return step * power;
}

const clock = (seconds: number): string =>
  new Date(seconds * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });

/** A path with gaps where there is no value. */
function pathOf(values: (number | null)[], x: (i: number) => number, y: (value: number) => number): string {
  let path = '';
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    path += `${drawing ? 'L' : 'M'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    drawing = true;
  });
  return path;
}

/** A point between two gaps would not be seen as a line. */
function alone(values: (number | null)[]): number[] {
  return values.flatMap((value, i) =>
    value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : [],
  );
}

export function Chart({ title, times, series, format, tick = format }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(480);
  const [at, setAt] = useState<number>();
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      setWidth(Math.max(200, element.clientWidth));
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, []);

  const last = times.length - 1;
  const all = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = niceCeiling(Math.max(0, ...all));
  const inner = { width: width - PAD.left - PAD.right, height: HEIGHT - PAD.top - PAD.bottom };
  const x = (i: number): number => PAD.left + (inner.width * i) / Math.max(1, last);
  const y = (value: number): number => PAD.top + inner.height * (1 - value / top);
  const valueAt = (values: (number | null)[], i: number): string => {
    const value = values[i] ?? null;
    return value === null ? '–' : format(value);
  };
  const latest = (values: (number | null)[]): string => {
    const found = values.findLast((value) => value !== null) ?? null;
    return found === null ? 'none yet' : format(found);
  };
  const shown = at === undefined ? undefined : Math.min(last, Math.max(0, at));

  const follow = (event: PointerEvent): void => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    setAt(Math.round(((event.clientX - left - PAD.left) / Math.max(1, inner.width)) * last));
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    setAt(Math.min(last, Math.max(0, (shown ?? last) + move)));
  };
  const summary = series.map(({ name, values }) => `${name} ${latest(values)}`).join(', ');

  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        <span class="legend" aria-live="off">
          {shown === undefined ? null : <span class="time">{clock(times[shown] ?? 0)}</span>}
          {series.map(({ name, kind, values }) => (
            <span key={name} class={`key ${kind}`}>
              {name} <b>{shown === undefined ? latest(values) : valueAt(values, shown)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={box}>
        <svg
          width="100%"
          height={HEIGHT}
          viewBox={`0 0 ${width} ${HEIGHT}`}
          role="img"
          aria-label={`${title}: ${summary}. Arrow keys move through time.`}
          tabIndex={0}
          onPointerMove={follow}
          onPointerLeave={() => {
            setAt(undefined);
          }}
          onKeyDown={onKeyDown}
          onBlur={() => {
            setAt(undefined);
          }}
        >
          {[0, 0.5, 1].map((share) => (
            <g key={share}>
              <line
                class="grid"
                x1={PAD.left}
                x2={width - PAD.right}
                y1={y(top * share)}
                y2={y(top * share)}
              />
              <text class="tick" x={PAD.left - 6} y={y(top * share) + 4} text-anchor="end">
                {share === 0 ? '0' : tick(top * share)}
              </text>
            </g>
          ))}
          {[0, 0.5, 1].map((share) => (
            <text
              key={share}
              class="tick"
              x={x(last * share)}
              y={HEIGHT - 3}
              text-anchor={share === 0 ? 'start' : share === 1 ? 'end' : 'middle'}
            >
              {clock(times[Math.round(last * share)] ?? 0)}
            </text>
          ))}
          {series
            .slice(0, 1)
            .map(({ name, kind, values }) =>
              values.length === 0 || values.includes(null) ? null : (
                <path key={name} class={`area ${kind}`} d={`${pathOf(values, x, y)}V${y(0)}H${x(0)}Z`} />
              ),
            )}
          {series.map(({ name, kind, values }) => (
            <g key={name}>
              <path class={`line ${kind}`} d={pathOf(values, x, y)} />
              {alone(values).map((i) => (
                <circle key={i} class={`dot ${kind}`} cx={x(i)} cy={y(values[i] ?? 0)} r={2} />
              ))}
            </g>
          ))}
          {shown === undefined ? null : (
            <line class="cross" x1={x(shown)} x2={x(shown)} y1={PAD.top} y2={PAD.top + inner.height} />
          )}
        </svg>
      </div>
    </figure>
  );
}
