// Rows as a file: JSON as the daemon sends them, CSV that spreadsheets read and do not execute.

import { explain } from './api.js';
import { textOf } from './values.js';

// What a spreadsheet takes for the start of a formula, also behind blanks, and in its full-width forms.
const FORMULA = /^[\s\u0000]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/;
const NUMBER = /^-?\d+(\.\d+)?$/;

/** One CSV field: NULL is empty, the empty text is `""`, and no text can start a formula. */
function csvField(value) {
  const text = textOf(value);
  if (text === null) return '';
  const inert = typeof value === 'number' || NUMBER.test(text) || !FORMULA.test(text) ? text : `'${text}`;
  return inert === '' || /[",\r\n]|^\s|\s$/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

/** RFC 4180, with a header; a byte order mark only where Excel would otherwise misread a letter. */
function toCsv(columns, rows) {
  const lines = [columns.map(csvField), ...rows.map((row) => columns.map((name) => csvField(row[name])))];
  const text = lines.map((line) => `${line.join(',')}\r\n`).join('');
  return /[^\0-\x7f]/.test(text) ? `\uFEFF${text}` : text;
}

function toJson(rows) {
  return `${JSON.stringify(rows, null, 2)}\n`;
}

function download(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  // The download reads the blob after this turn: give it time before the memory is freed.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Downloads what the view shows, as "csv" or "json", while the button says so; `tell(problem)` with what went wrong, or null. */
export async function exportRows(view, button, kind, tell) {
  const label = button.textContent;
  button.disabled = true;
  button.textContent = 'Wait…';
  try {
    const entries = await view.entriesForExport();
    const rows = entries.map(({ row, sent }) => (kind === 'json' ? sent ?? row : row));
    const name = `${view.feed.name}-${new Date().toISOString().replace(/[:.]/g, '-')}.${kind}`;
    if (kind === 'csv') download(name, 'text/csv;charset=utf-8', toCsv(view.profile.columns, rows));
    else download(name, 'application/json', toJson(rows));
    tell(null);
  } catch (error) {
    tell({ title: 'The export failed.', text: explain(error).text });
  } finally {
    button.disabled = false;
    button.textContent = label;
  }
}
