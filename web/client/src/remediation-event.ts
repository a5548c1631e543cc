import type { Id } from "./ids.js";

/** A row of the stock feed. Every column but `id` and `ts` may be NULL. */
export interface RemediationEvent {
  id: Id;
  /** ISO 8601, UTC. */
  ts: string;
  alertname: string | null;
  tenant: string | null;
  action: string | null;
  status: string | null;
  /** Its first 500 characters, unless the server is configured otherwise. */
  details: string | null;
}
