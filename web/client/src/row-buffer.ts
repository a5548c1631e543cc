// The rows between a subscription and the consumer of its iterator: bounded, and waited on from both sides.

// Where either is reached, the subscription lets go of its connection until half has been taken; it resumes from the last
// row in here, so a slow consumer costs memory up to this bound and no row.
const MAX_ROWS = 1_000;
const MAX_SIZE = 8 * 1024 * 1024;

export class RowBuffer<R> {
  #rows: Array<{ row: R; size: number }> = [];
  #size = 0;
  /** From the bound being reached until half of it is free. */
  #full = false;
  #ended: { error: Error | null } | null = null;
  #waiting: Array<() => void> = [];

  /** `size` is the length of the row's JSON. */
  push(row: R, size: number): void {
    this.#rows.push({ row, size });
    this.#size += size;
    this.#full ||= this.#rows.length >= MAX_ROWS || this.#size >= MAX_SIZE;
    this.#wake();
  }

  /** What is taken next, undefined for nothing yet. */
  get first(): R | undefined {
    return this.#rows[0]?.row;
  }

  /** Whether nothing more should be pushed until it has drained. */
  get isFull(): boolean {
    return this.#full;
  }

  /** Resolves when it is not full, or was ended. */
  async drained(): Promise<void> {
    while (!this.#ended && this.#full) await this.#change();
  }

  clear(): void {
    this.#rows = [];
    this.#size = 0;
    this.#full = false;
    this.#wake();
  }

  /** What is in here can still be taken; then the iteration is done, or fails with `error`. */
  end(error: Error | null): void {
    this.#ended ??= { error };
    this.#wake();
  }

  /** The next row, as soon as there is one. */
  async next(): Promise<IteratorResult<R, undefined>> {
    for (;;) {
      const first = this.#rows.shift();
      if (first) {
        this.#size -= first.size;
        this.#noticeRoom();
        return { done: false, value: first.row };
      }
      if (this.#ended?.error) throw this.#ended.error;
      if (this.#ended) return { done: true, value: undefined };
      await this.#change();
    }
  }

  #noticeRoom(): void {
    if (!this.#full || this.#rows.length > MAX_ROWS / 2 || this.#size > MAX_SIZE / 2) return;
    this.#full = false;
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
