// The real daemon on a real file, and a real writer beside it.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./ledger.js";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** The daemon's binary: `WALCAST_BIN`, else the release build, else the debug build. Null where there is none; a named one must exist. */
export function daemonBinary(): string | null {
  const named = process.env.WALCAST_BIN;
  if (named !== undefined && !existsSync(named)) throw new Error(`WALCAST_BIN: ${named} does not exist; build it with cargo build --release`);
  return named ?? [join(ROOT, "target/release/walcast"), join(ROOT, "target/debug/walcast")].find(existsSync) ?? null;
}

/** A token of walcast's own, or a JWT, with its secret: no log tells one. */
const CREDENTIAL = /wct_[a-z0-9]{8}_[\w-]{16}|eyJ[\w-]*\.[\w-]+\.[\w-]{16}/;

export class Daemon {
  readonly directory = mkdtempSync(join(tmpdir(), "walcast-client-"));
  readonly database = join(this.directory, "events.db");
  #process: ChildProcess | null = null;
  #port = 0;
  #log = "";

  get http(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get url(): string {
    return `${this.http}/ws/remediation`;
  }

  /** Starts it, on the same port as before where there was one. */
  async start(...more: string[]): Promise<this> {
    this.#log = "";
    const options = ["--db", this.database, "--listen", `127.0.0.1:${this.#port}`, "--state-dir", join(this.directory, "state"), ...more];
    const child = spawn(daemonBinary()!, options, { stdio: ["ignore", "ignore", "pipe"], cwd: this.directory });
    this.#process = child;
    child.stderr!.on("data", (text) => (this.#log += text));
    const address = /http:\/\/127\.0\.0\.1:(\d+)/;
    await until(() => address.test(this.#log) || child.exitCode !== null, () => `the daemon's address in: ${this.#log}`);
    if (child.exitCode !== null) throw new Error(`the daemon ended with ${child.exitCode}: ${this.#log}`);
    this.#port = Number(address.exec(this.#log)![1]);
    return this;
  }

  /** Makes it ask for tokens from its next start on; gives the options for that start. */
  async askForTokens(): Promise<string[]> {
    const config = join(this.directory, "walcast.toml");
    writeFileSync(config, `[auth]\ntokens = ${JSON.stringify(join(this.directory, "tokens.toml"))}\n[feeds.remediation]\ntable = "remediation_events"\nmessage = { type = "remediation_event", body = "event" }\ncreate = true\nscope = "none"\n[feeds.other]\ntable = "remediation_events"\nscope = "none"\n`);
    // An empty file of tokens can't be told from a forgotten one.
    await this.token("add", "first", "--feed", "other");
    return ["--config", config];
  }

  /** Runs `walcast token`, and waits until a running daemon has seen what it changed; gives what it prints. */
  async token(...options: string[]): Promise<string> {
    const timesRead = () => this.#log.split("tokens read again").length;
    const before = timesRead();
    const printed = execFileSync(daemonBinary()!, ["token", ...options, "--config", join(this.directory, "walcast.toml")], { encoding: "utf8" }).trim();
    if (this.#process) await until(() => timesRead() > before, () => `the tokens being read again: ${this.#log}`);
    return printed;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
    if (CREDENTIAL.test(this.#log)) throw new Error(`a credential is in the log:\n${this.#log}`);
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Removes the database as an operator must: with its WAL. */
  removeDatabase(): void {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(this.database + suffix, { force: true });
  }

  /** Runs statements in Python's sqlite3, in one transaction on a connection of its own. */
  write(statements: Array<[sql: string, ...values: unknown[]]>): void {
    execFileSync("python3", ["-c", WRITER, this.database], { input: JSON.stringify(statements) });
  }

  /** Inserts rows with only a few columns given; the others are NULL. */
  insert(...rows: Array<Record<string, unknown>>): void {
    this.write(
      rows.map((row) => {
        const columns = { ts: "2026-01-01T00:00:00Z", ...row };
        const names = Object.keys(columns);
        return [`INSERT INTO remediation_events (${names.join()}) VALUES (${names.map(() => "?").join()})`, ...Object.values(columns)];
      }),
    );
  }
}

const WRITER = `
import json, sqlite3, sys
from contextlib import closing
SCHEMA = """CREATE TABLE IF NOT EXISTS remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,
    alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"""
with closing(sqlite3.connect(sys.argv[1], timeout=10)) as connection, connection:
    connection.execute(SCHEMA)
    for sql, *values in json.load(sys.stdin):
        connection.execute(sql, values)
`;
