// The token this tab presents: taken from the page's address, where it would stay in the browser's history, or from the
// person at the screen; kept until the tab is closed.

const KEY = 'walcast.token';
/** What both a header and the name of a subprotocol can carry; walcast's own tokens and JWTs are made of less. */
const FORM = /^[\w.~+-]+$/;
/** Longer ones do not fit into a request's head. */
const MAX_CHARS = 8_000;

/** The token for when this browser's storage is off. */
let held = '';

export function token() {
  try {
    return sessionStorage.getItem(KEY) ?? held;
  } catch {
    return held;
  }
}

/** Keeps a token, or none for ''; returns whether it has the form of one. */
export function setToken(value) {
  if (value !== '' && (value.length > MAX_CHARS || !FORM.test(value))) return false;
  held = value;
  try {
    if (value === '') sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is off in this browser: the page then asks again after a reload.
  }
  return true;
}

/**
 * Takes a token out of the page's own address (`#token=…`, behind any other hash; `?token=…` too). Returns "none", "taken",
 * or "malformed" for what can't be one, which is removed all the same.
 */
export function adoptToken() {
  const here = new URL(location.href);
  const inHash = /[#&?]token=([^&]*)$/.exec(here.hash);
  const value = inHash?.[1] ?? here.searchParams.get('token');
  if (value === null) return 'none';
  if (inHash) here.hash = here.hash.slice(0, inHash.index);
  here.searchParams.delete('token');
  window.history.replaceState(null, '', here);
  return value !== '' && setToken(value) ? 'taken' : 'malformed';
}

/** What the daemon says against a token, and what can be done about it, as `{title, text}`. */
export function refusalOf({ code, message }) {
  const said = {
    token_missing: { title: 'A token is needed', text: 'This daemon shows its feeds to those who present a token.' },
    token_expired: { title: 'The token has expired', text: 'A fresh one goes on from here.' },
    token_revoked: { title: 'The token is no longer valid', text: 'It was revoked, or is refused now.' },
    token_invalid: { title: 'The token is not good here', text: 'It was mistyped or revoked, or belongs to another daemon.' },
    claim_missing: { title: 'The token is not made for this feed', text: 'It says nothing of a column by which the feed tells whose rows are whose.' },
  }[code];
  return said ?? { title: 'A token is needed', text: message };
}

/** The form that asks for a token. */
export class TokenForm {
  /** `onToken()` once there is another one. */
  constructor({ form, input, fault, forget, onToken }) {
    Object.assign(this, { form, input, fault, forget, onToken });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#use();
    });
    forget.addEventListener('click', () => {
      setToken('');
      this.#close();
      onToken();
    });
  }

  get open() {
    return !this.form.hidden;
  }

  ask() {
    this.form.hidden = false;
    this.#tell('');
    this.forget.hidden = token() === '';
    this.input.focus();
  }

  #use() {
    const value = this.input.value.trim();
    if (value === '') return this.#tell('Paste a token first.');
    if (!setToken(value)) return this.#tell('This has characters that no token has: paste it alone, without quotes or blanks.');
    this.#close();
    this.onToken();
  }

  #tell(text) {
    this.fault.textContent = text;
    this.input.setAttribute('aria-invalid', text !== '');
    if (text !== '') this.input.focus();
  }

  #close() {
    this.input.value = '';
    this.form.hidden = true;
  }
}
