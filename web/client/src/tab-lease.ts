// Which of several tabs holds the connection: the one that has the lease. The browser takes it back when the tab goes, however it goes.

/** Whether tabs can share here: pages have locks only where they are secure (https, or loopback). */
export function canShareWithTabs(): boolean {
  return globalThis.navigator?.locks !== undefined && globalThis.BroadcastChannel !== undefined && globalThis.crypto?.subtle !== undefined;
}

export class Lease {
  /** Aborted when another tab took it, because this one gave no sign of life. */
  readonly lost: AbortSignal;
  readonly release: () => void;

  private constructor(lost: AbortSignal, release: () => void) {
    this.lost = lost;
    this.release = release;
  }

  /** The lease of this name, null where another tab has it. Rejects where this page is given none: in a sandboxed frame. */
  static now(name: string): Promise<Lease | null> {
    return Lease.#request(name, { ifAvailable: true });
  }

  /** Waits for it; null once the signal is aborted, and where this page is given none (any more). */
  static next(name: string, signal: AbortSignal): Promise<Lease | null> {
    return Lease.#request(name, { signal }).catch(() => null);
  }

  /** Takes it from whichever tab has it; null where this page is given none. */
  static take(name: string): Promise<Lease | null> {
    return Lease.#request(name, { steal: true }).catch(() => null);
  }

  static #request(name: string, options: LockOptions): Promise<Lease | null> {
    return new Promise((resolve, reject) => {
      const lost = new AbortController();
      const held = (lock: Lock | null): Promise<void> | undefined => {
        if (lock) return new Promise((release) => resolve(new Lease(lost.signal, release)));
        resolve(null);
        return undefined;
      };
      navigator.locks.request(name, options, held).catch((error) => {
        // Of a lease that was given, this says that it is lost; else it was never given.
        lost.abort();
        reject(error);
      });
    });
  }
}
