import type { Timeline } from './timeline.js';

const WIDTH = 1_000;
const HEIGHT = 160;
const COLOURS: Readonly<Record<string, string>> = {
  kill: '#c0392b',
  freeze: '#2980b9',
  'lost COMMIT': '#8e44ad',
  terminate: '#d68910',
  crash: '#000000',
  network: '#16a085',
  cache: '#7f8c8d',
};

/** Requests a second, by what became of them. */
export function throughputPlot({ seconds }: Timeline): string {
  const most = Math.max(1, ...seconds.map(({ ok, refused, unknown }) => ok + refused + unknown));
  const step = WIDTH / Math.max(1, seconds.length);
  const bars = seconds.map(({ ok, refused, unknown }, index) => {
    let bottom = HEIGHT;
    return [
      [ok, '#27ae60'],
      [refused, '#f1c40f'],
      [unknown, '#c0392b'],
    ]
      .map(([count, colour]) => {
        const height = (Number(count) / most) * HEIGHT;
        bottom -= height;
        return rect(index * step, bottom, step, height, String(colour));
      })
      .join('');
  });
  return svg(HEIGHT, bars.join(''));
}

/** A line for each kind of fault, with a mark for each time. */
export function faultPlot({ faults, seconds }: Timeline): string {
  const kinds = Object.keys(COLOURS);
  const row = 18;
  const msWide = WIDTH / Math.max(1, seconds.length * 1_000);
  const marks = faults.map(({ name, atMs, untilMs }) => {
    const kind = kinds.findIndex((prefix) => name.startsWith(prefix));
    const colour = COLOURS[kinds[kind] ?? ''] ?? '#000000';
    return rect(atMs * msWide, kind * row + 2, Math.max(1, (untilMs - atMs) * msWide), row - 4, colour);
  });
  const names = kinds.map(
    (kind, index) => `<text x="2" y="${index * row + 13}" font-size="10">${kind}</text>`,
  );
  return svg(kinds.length * row, [...marks, ...names].join(''));
}

/** Resident memory of the instance that is never killed. */
export function memoryPlot({ samples, seconds }: Timeline): string {
  const most = Math.max(1, ...samples.map(({ residentBytes }) => residentBytes));
  const points = samples.map(({ atMs, residentBytes: bytes }) => {
    const x = (atMs / Math.max(1, seconds.length * 1_000)) * WIDTH;
    return `${x.toFixed(1)},${(HEIGHT - (bytes / most) * (HEIGHT - 10)).toFixed(1)}`;
  });
  const label = `<text x="2" y="12" font-size="10">at most ${(most / 1e6).toFixed(0)} MB</text>`;
  return svg(HEIGHT, `<polyline fill="none" stroke="#2c3e50" points="${points.join(' ')}"/>${label}`);
}

const svg = (height: number, content: string): string =>
  `<svg viewBox="0 0 ${WIDTH} ${height}" width="100%" style="background:#fafafa">${content}</svg>`;

const rect = (x: number, y: number, width: number, height: number, colour: string): string =>
  `<rect x="${x.toFixed(2)}" y="${y.toFixed(2)}" width="${width.toFixed(2)}" height="${height.toFixed(2)}" fill="${colour}"/>`;
