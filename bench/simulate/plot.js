/** Documents a day by GPUs, a line for each length, both axes by powers of ten; dashed: with more submits and aggregators. */
const SIZE = { width: 900, height: 460, left: 96, right: 650, top: 30, bottom: 400 };
const COLOURS = ['#1b6ca8', '#d1495b', '#3a7d44', '#8d5a97'];

export function plot(rows) {
  const known = rows.filter(({ ranks }) => ranks !== null);
  const rates = known.map((row) => row.documents_per_day);
  const [low, high] = [Math.floor(Math.log10(Math.min(...rates))), Math.ceil(Math.log10(Math.max(...rates)))];
  const x = (gpus) => SIZE.left + (Math.log10(gpus) / 3) * (SIZE.right - SIZE.left);
  const y = (documents) =>
    SIZE.bottom - ((Math.log10(documents) - low) / (high - low)) * (SIZE.bottom - SIZE.top);
  const text = (at, up, words, more = '') =>
    `<text x="${at.toFixed(1)}" y="${up.toFixed(1)}" ${more}>${words}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" font-family="sans-serif" font-size="12">`,
    '<title>Documents a day by GPUs, simulated</title>',
    `<rect width="${SIZE.width}" height="${SIZE.height}" fill="#fff"/>`,
  ];
  for (let power = low; power <= high; power++) {
    parts.push(`<path d="M${SIZE.left} ${y(10 ** power).toFixed(1)}H${SIZE.right}" stroke="#ddd"/>`);
    parts.push(
      text(SIZE.left - 8, y(10 ** power) + 4, (10 ** power).toLocaleString('en'), 'text-anchor="end"'),
    );
  }
  for (const count of new Set(rows.map((row) => row.gpus))) {
    parts.push(`<path d="M${x(count).toFixed(1)} ${SIZE.top}V${SIZE.bottom}" stroke="#eee"/>`);
    parts.push(text(x(count), SIZE.bottom + 18, count, 'text-anchor="middle"'));
  }
  parts.push(text((SIZE.left + SIZE.right) / 2, SIZE.bottom + 38, 'GPUs (H100)', 'text-anchor="middle"'));
  parts.push(text(SIZE.left, SIZE.top - 12, 'documents a day'));
  const lengths = [...new Set(known.map(({ tokens }) => tokens))];
  for (const [index, tokens] of lengths.entries()) {
    const colour = COLOURS[index % COLOURS.length];
    const own = known.filter((row) => row.tokens === tokens);
    const place = (row) => `${x(row.gpus).toFixed(1)} ${y(row.documents_per_day).toFixed(1)}`;
    // Where two rows have one number of GPUs, the second has more processes beside them.
    const few = own.filter((row, at) => own.findIndex(({ gpus }) => gpus === row.gpus) === at);
    const more = own.filter((row) => !few.includes(row));
    const before = few.filter(({ gpus }) => gpus < (more[0]?.gpus ?? 0)).at(-1);
    parts.push(`<path d="M${few.map(place).join('L')}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const row of more)
      parts.push(`<path d="M${place(before)}L${place(row)}" stroke="${colour}" stroke-dasharray="4 4"/>`);
    for (const row of own) {
      const [at, up] = place(row).split(' ');
      const fill = few.includes(row) ? colour : '#fff';
      parts.push(`<circle cx="${at}" cy="${up}" r="4" fill="${fill}" stroke="${colour}"/>`);
    }
    const up = SIZE.top + 20 + index * 22;
    parts.push(`<path d="M${SIZE.right + 24} ${up - 4}h24" stroke="${colour}" stroke-width="2"/>`);
    parts.push(text(SIZE.right + 56, up, `${tokens / 1024}K tokens`));
  }
  const up = SIZE.top + 30 + lengths.length * 22;
  parts.push(`<path d="M${SIZE.right + 24} ${up - 4}h24" stroke="#555" stroke-dasharray="4 4"/>`);
  parts.push(text(SIZE.right + 56, up, '16 submits, 8 aggregators'));
  return parts.join('\n') + '\n</svg>\n';
}
