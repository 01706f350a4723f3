import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readHistory } from '../history/read-history.js';
import { report } from '../history/report.js';
import type { HistoryVerdict } from '../history/verdict.js';
import type { Plan } from '../plan.js';
import type { Run } from '../run.js';
import { type Figures, figuresOf } from './figures.js';
import { faultPlot, memoryPlot, throughputPlot } from './plots.js';
import { summaryOf } from './summary.js';
import { type Timeline, timelineOf } from './timeline.js';

export interface Report {
  readonly html: string;
  readonly figures: Figures;
  /** For the terminal. */
  readonly summary: string;
}

/** Writes the figures of a run as JSON, and with plots as HTML. */
export async function writeReport(
  plan: Plan,
  run: Run,
  verdict: HistoryVerdict,
  notShown: readonly string[],
): Promise<Report> {
  const timeline = await timelineOf(readHistory(run.historyFile));
  const figures = figuresOf(plan, run, verdict, timeline, notShown);
  const html = join(plan.folder, 'report.html');
  writeFileSync(
    join(plan.folder, 'report.json'),
    `${JSON.stringify({ ...figures, listed: verdict.violations }, undefined, 2)}\n`,
  );
  writeFileSync(html, pageOf(figures, timeline, verdict));
  return { html, figures, summary: summaryOf(figures) };
}

function pageOf(figures: Figures, timeline: Timeline, verdict: HistoryVerdict): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Chaos, seed ${figures.seed}</title>
<style>body{font:14px sans-serif;max-width:1040px;margin:2em auto}pre{background:#f4f4f4;padding:1em}</style>
<h1>${figures.violations} violations in ${figures.checked.requests} checked requests</h1>
<p>Seed ${figures.seed}, ${figures.date}, ${figures.seconds} s. Again: <code>${escape(figures.again)}</code></p>
<h2>Requests a second</h2><p>Answered for good (green), refused (yellow), unknown (red).</p>
${throughputPlot(timeline)}
<h2>Faults</h2>
${faultPlot(timeline)}
<h2>Memory of the instance that is never killed</h2>
${memoryPlot(timeline)}
<h2>Figures</h2><pre>${escape(summaryOf(figures))}</pre>
<h2>Promises</h2><pre>${escape(report(verdict))}</pre>
<h2>Not shown</h2><ul>${figures.notShown.map((line) => `<li>${escape(line)}</li>`).join('')}</ul>
</html>
`;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
