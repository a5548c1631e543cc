"use client";
// The last events of the stock feed as a small list, ready to be put on a page.
import { useLayoutEffect, useRef, useState, type CSSProperties, type ReactNode } from "react";
import type { EventMeta, Filters } from "../options.js";
import type { RemediationEvent } from "../remediation-event.js";
import { isOpen } from "./connection-key.js";
import { useFeed } from "./use-feed.js";

export interface RecentRemediationsProps {
  /** The feed. Default `/ws/remediation` of the page's own server. */
  url?: string;
  /** Where events are read from while there is no WebSocket, e.g. `/ops/remediate/history`. */
  historyUrl?: string;
  /** The user's roles, passed to the history in `rolesHeader`. */
  roles?: string | readonly string[];
  /** Default `X-User-Roles`. */
  rolesHeader?: string;
  token?: string | (() => string | Promise<string>);
  filters?: Filters;
  /** How many events are shown. Default 10. */
  limit?: number;
  heading?: ReactNode;
  className?: string;
}

export function RecentRemediations(props: RecentRemediationsProps): ReactNode {
  const { url = "/ws/remediation", historyUrl, roles, rolesHeader = "X-User-Roles", token, filters, limit = 10 } = props;
  // Rows by identity: known as new when they are rendered for the first time, forgotten with them.
  const [arrivals] = useState(() => new WeakSet<RemediationEvent>());
  const { events, status, error } = useFeed<RemediationEvent>(url, {
    limit,
    ...(historyUrl === undefined ? {} : { historyUrl }),
    ...(token === undefined ? {} : { token }),
    ...(filters === undefined ? {} : { filters }),
    ...(roles === undefined ? {} : { headers: { [rolesHeader]: [roles].flat().join(",") } }),
    onEvent: (event, meta) => {
      if (meta.replay) return;
      arrivals.add(event);
      notify(event, meta);
    },
  });
  const live = isOpen(status.state);
  return (
    <section className={props.className} data-walcast="recent-remediations">
      <header style={HEADER}>
        <Dot live={live} />
        <h2 style={HEADING}>{props.heading ?? "Recent remediations"}</h2>
        <NotifyButton />
      </header>
      {(!live || error) && (
        <p role="status" style={NOTE}>
          {live ? error?.message : status.message}
        </p>
      )}
      {events.length === 0 && live && <p style={NOTE}>No remediations yet.</p>}
      <ol style={LIST}>
        {events.map((event) => (
          <Item key={String(event.id)} event={event} isNew={arrivals.has(event)} />
        ))}
      </ol>
    </section>
  );
}

function Dot({ live }: { live: boolean }): ReactNode {
  const title = live ? "Live" : "Polling";
  return <span role="img" aria-label={title} title={title} data-live={live} style={{ ...DOT, backgroundColor: live ? "#16a34a" : "#9ca3af" }} />;
}

function Item({ event, isNew }: { event: RemediationEvent; isNew: boolean }): ReactNode {
  const element = useRef<HTMLLIElement>(null);
  // By script, because a component without a style sheet has nowhere to keep keyframes. Once, when the row appears.
  // biome-ignore lint/correctness/useExhaustiveDependencies: what was new once is not shown again when it no longer is
  useLayoutEffect(() => {
    if (isNew && !globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches) {
      element.current?.animate?.([{ opacity: 0 }, { opacity: 1 }], { duration: 600, easing: "ease-out" });
    }
  }, []);
  return (
    <li ref={element} data-id={String(event.id)} data-new={isNew} data-status={text(event.status)} style={ITEM}>
      <strong>{text(event.alertname)}</strong> <span>{text(event.action)}</span> <span>{text(event.status)}</span>
      <div style={NOTE}>
        <time dateTime={text(event.ts)}>{localTime(event.ts)}</time> · {text(event.tenant)} · <span style={DETAILS}>{text(event.details)}</span>
      </div>
    </li>
  );
}

/** Asks for the permission on a click, and is there only where it can be asked for. */
function NotifyButton(): ReactNode {
  const [permission, setPermission] = useState(() => globalThis.Notification?.permission);
  if (permission !== "default") return null;
  return (
    <button type="button" onClick={() => void Notification.requestPermission().then(setPermission)}>
      Notify me
    </button>
  );
}

function notify(event: RemediationEvent, { id }: EventMeta): void {
  if (!document.hidden || globalThis.Notification?.permission !== "granted") return;
  try {
    // One tag: a burst leaves one notification, of its last event.
    const options = { body: `${text(event.action)}: ${text(event.status)}`, tag: "walcast-recent-remediations", data: String(id) };
    const notification = new Notification(`${text(event.alertname)} (${text(event.tenant)})`, options);
    notification.onclick = () => {
      window.focus();
      notification.close();
    };
  } catch {
    // Phones have Notification but allow it to service workers only.
  }
}

// Any column may be NULL, and a column that embeds JSON may be anything.
function text(value: unknown): string {
  if (value === null || value === undefined) return "—";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function localTime(ts: unknown): string {
  const time = new Date(text(ts));
  return Number.isNaN(time.getTime()) ? text(ts) : time.toLocaleString();
}

const HEADER: CSSProperties = { display: "flex", alignItems: "center", gap: "0.5rem" };
const HEADING: CSSProperties = { margin: 0, fontSize: "1rem", flex: 1 };
const DOT: CSSProperties = { width: "0.65rem", height: "0.65rem", borderRadius: "50%", flex: "none" };
const LIST: CSSProperties = { listStyle: "none", margin: 0, padding: 0 };
const ITEM: CSSProperties = { padding: "0.5rem 0", borderTop: "1px solid color-mix(in srgb, currentColor 15%, transparent)" };
const NOTE: CSSProperties = { margin: "0.25rem 0 0", fontSize: "0.85rem", opacity: 0.75 };
const DETAILS: CSSProperties = { overflowWrap: "anywhere" };
