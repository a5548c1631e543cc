// Sets the theme before the first paint, so a classic script and not a module: a dark page must not flash white.
'use strict';
(() => {
  const KEY = 'walcast.theme';
  const system = matchMedia('(prefers-color-scheme: dark)');
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  let choice = stored();
  const apply = () => {
    document.documentElement.dataset.theme = choice ?? (system.matches ? 'dark' : 'light');
  };
  system.addEventListener('change', apply);
  apply();

  addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    const name = () => {
      const other = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
      button.setAttribute('aria-label', `Switch to the ${other} theme`);
      button.title = `Switch to the ${other} theme`;
    };
    system.addEventListener('change', name);
    button.addEventListener('click', () => {
      const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
      // Back at what the system wants: follow it again.
      choice = next === (system.matches ? 'dark' : 'light') ? null : next;
      try {
        if (choice) localStorage.setItem(KEY, choice);
        else localStorage.removeItem(KEY);
      } catch {
        // Storage is off: the choice holds until the page is closed.
      }
      apply();
      name();
    });
    name();
  });
})();
