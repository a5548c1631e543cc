// Text for the clipboard.

/** Puts the text there; resolves with the word that says what came of it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return 'Copied';
  } catch {
    return copiedBySelection(text) ? 'Copied' : 'Not allowed here';
  }
}

/** Away from localhost and without TLS a page has no clipboard of its own, but may still copy what is selected. */
function copiedBySelection(text) {
  const area = document.createElement('textarea');
  area.value = text;
  // Beside whatever has the focus: a modal dialog leaves nothing outside of it to be selected.
  const focused = document.activeElement;
  const place = focused?.closest('dialog') ?? document.body;
  area.className = 'unseen';
  place.append(area);
  area.select();
  try {
    return document.execCommand('copy');
  } finally {
    area.remove();
    focused?.focus();
  }
}
