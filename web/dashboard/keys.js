// Single keys, for those who would rather not reach for the mouse; they can be turned off, and rest while something is typed.

const OFF = 'walcast.keys';

function storedOff() {
  try {
    return localStorage.getItem(OFF) === 'off';
  } catch {
    return false;
  }
}

const isTyping = (target) => target.closest('input, textarea, select, [contenteditable]') !== null;

export class Keys {
  #on = !storedOff();

  /** `actions`: key → what it does, while no dialog is open; `help` is the dialog that lists them, `toggle` its checkbox. */
  constructor({ actions, help, toggle, open }) {
    toggle.checked = this.#on;
    toggle.addEventListener('change', () => this.#turn(toggle.checked));
    open.addEventListener('click', () => help.showModal());
    help.addEventListener('click', (event) => (event.target === help || event.target.closest('.icon')) && help.close());
    addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) return;
      if (!this.#on || document.querySelector('dialog[open], [popover]:popover-open')) return;
      const act = event.key === '?' ? () => help.showModal() : actions[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }

  #turn(on) {
    this.#on = on;
    try {
      if (on) localStorage.removeItem(OFF);
      else localStorage.setItem(OFF, 'off');
    } catch {
      // Storage is off: the choice holds until the page is closed.
    }
  }
}
