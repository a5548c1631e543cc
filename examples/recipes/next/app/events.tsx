"use client";

import { useState } from "react";
import type { RemediationEvent } from "walcast-client";
import { useFeed } from "walcast-client/react";
import type { Page } from "../walcast";

const SHOWN = 50;

/** The list as the server rendered it, which goes on from its last row. */
export function Events({ rendered }: { rendered: Page }) {
  // The first rendering: a later one of the server changes nothing of a subscription that runs.
  const [start] = useState(rendered);
  const [older, setOlder] = useState(start.items);
  const { events, status } = useFeed<RemediationEvent>("/ws/remediation", {
    limit: SHOWN,
    since: start.items[0]?.id ?? start.head,
    epoch: start.epoch,
    token: freshToken,
    onReset: () => setOlder([]),
  });
  return (
    <>
      <p id="status">{status.message}</p>
      <ul id="events">
        {[...events, ...older].slice(0, SHOWN).map(({ id, alertname, tenant, status }) => (
          <li key={id} data-id={id}>
            {alertname ?? "—"} · {tenant ?? "—"} · {status ?? "—"}
          </li>
        ))}
      </ul>
    </>
  );
}

/** Asks this page's own server, which knows who is signed in, for a token that is good now. */
async function freshToken(): Promise<string> {
  const answer = await fetch("/walcast-token", { method: "POST" });
  if (!answer.ok) throw new Error(`no token: the server answers ${answer.status}`);
  return answer.text();
}
