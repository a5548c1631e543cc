// A small box beside what opened it; a click elsewhere or Esc closes it.

const GAP_PX = 4;
const EDGE_PX = 8;

/** Under the anchor, or above it where there is more room, within the window. */
function place(popover, anchor) {
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popover;
  const below = at.bottom + GAP_PX;
  const top = below + height > innerHeight - EDGE_PX && at.top > innerHeight - at.bottom ? at.top - GAP_PX - height : below;
  popover.style.left = `${Math.max(EDGE_PX, Math.min(at.left, innerWidth - width - EDGE_PX))}px`;
  popover.style.top = `${Math.max(EDGE_PX, Math.min(top, innerHeight - height - EDGE_PX))}px`;
}

/** Shows a popover beside `anchor`, however the window's size changes meanwhile. */
export function openBeside(popover, anchor) {
  // Outside of a modal dialog nothing can be clicked, a popover neither.
  (anchor.closest('dialog') ?? document.body).append(popover);
  popover.showPopover();
  const placeAgain = () => place(popover, anchor);
  placeAgain();
  addEventListener('resize', placeAgain);
  const closed = ({ newState }) => {
    if (newState !== 'closed') return;
    popover.removeEventListener('toggle', closed);
    removeEventListener('resize', placeAgain);
    anchor.setAttribute('aria-expanded', 'false');
    // Whoever came here by the keyboard goes on from where they were.
    if ((document.activeElement === document.body || popover.contains(document.activeElement)) && anchor.isConnected) anchor.focus({ preventScroll: true });
  };
  popover.addEventListener('toggle', closed);
  anchor.setAttribute('aria-expanded', 'true');
}
