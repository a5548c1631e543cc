// How wide a text is in the page's font: counted characters are wrong by a third where "w" and "m" stand beside "i" and "l".

let context = null;
let zero = 1;

function prepare() {
  context = document.createElement('canvas').getContext('2d');
  const { fontSize, fontFamily } = getComputedStyle(document.body);
  context.font = `${fontSize} ${fontFamily}`;
  zero = context.measureText('0').width || 1;
}

/** The width of a text in `ch`, the unit of the columns: the width of the digit 0. */
export function widthOf(text) {
  if (context === null) prepare();
  return context.measureText(text).width / zero;
}

/** How many px one `ch` is. */
export function chPx() {
  if (context === null) prepare();
  return zero;
}
