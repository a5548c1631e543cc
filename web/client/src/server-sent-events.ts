// The text of a stream of server-sent events, taken apart into the data of each.

// Well above the largest row a server sends in one piece.
const MAX_EVENT = 16 * 1024 * 1024;

export class EventTooLarge extends Error {}

/** Takes text as it arrives, in whatever pieces. */
export class EventParser {
  #rest = "";
  #data: string[] = [];
  #size = 0;

  /** The data of the events that this text completes. Throws EventTooLarge. */
  take(text: string): string[] {
    // A carriage return at the end may be the first half of a line's end.
    const whole = this.#rest + text;
    const held = whole.endsWith("\r") ? whole.length - 1 : whole.length;
    const lines = whole.slice(0, held).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + whole.slice(held);
    const complete: string[] = [];
    for (const line of lines) {
      if (line === "") this.#finish(complete);
      else if (line.startsWith("data:")) this.#add(line.slice(line.startsWith("data: ") ? 6 : 5));
    }
    if (this.#size + this.#rest.length > MAX_EVENT) throw new EventTooLarge("an event without an end");
    return complete;
  }

  #add(data: string): void {
    this.#data.push(data);
    this.#size += data.length;
  }

  #finish(complete: string[]): void {
    if (this.#data.length > 0) complete.push(this.#data.join("\n"));
    this.#data = [];
    this.#size = 0;
  }
}
