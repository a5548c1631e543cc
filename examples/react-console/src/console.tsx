import { useState } from "react";
import { RecentRemediations, useFeed, useRemediationWebSocket, type RemediationEvent } from "walcast-client/react";

const SERVER = import.meta.env.VITE_WALCAST_URL ?? "http://127.0.0.1:8010";
const FEED = `${SERVER}/ws/remediation`;

export function Console() {
  return (
    <>
      <Header />
      <main>
        <Events />
        <aside>
          <RecentRemediations url={FEED} historyUrl="/ops/remediate/history" roles={["operator"]} />
        </aside>
      </main>
    </>
  );
}

/** What a console with a hook of this name has today; only the import changed. */
function Header() {
  const { lastEvent, isConnected } = useRemediationWebSocket(FEED);
  return (
    <header className="bar">
      <h1>Remediation console</h1>
      <span className={isConnected ? "badge connected" : "badge"}>{isConnected ? "Connected" : "Not connected"}</span>
      <span className="latest">{lastEvent ? `Latest: ${lastEvent.alertname ?? "—"} for ${lastEvent.tenant ?? "—"}` : "No event since this page was opened"}</span>
    </header>
  );
}

function Events() {
  const [tenant, setTenant] = useState("");
  const [status, setStatus] = useState("");
  const { events, status: connection, total, totalIsCapped, error } = useFeed<RemediationEvent>(FEED, {
    limit: 200,
    filters: { tenant: tenant ? [tenant] : [], status: status ? [status] : [] },
  });
  return (
    <section>
      <div className="controls">
        <h2>Events</h2>
        <Choice label="Tenant" value={tenant} onChange={setTenant} values={events.map((event) => event.tenant)} />
        <Choice label="Status" value={status} onChange={setStatus} values={events.map((event) => event.status)} />
        <output>{total === null ? "" : `${total.toLocaleString()}${totalIsCapped ? "+" : ""} in the table`}</output>
      </div>
      <p role="status" className={connection.state === "live" && !error ? "quiet" : "notice"}>
        {error && connection.state === "live" ? error.message : connection.message}
      </p>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th>Id</th>
              <th>Time</th>
              <th>Alert</th>
              <th>Tenant</th>
              <th>Action</th>
              <th>Status</th>
              <th>Details</th>
            </tr>
          </thead>
          <tbody>
            {events.map((event) => (
              <tr key={event.id} data-status={event.status}>
                <td>{event.id}</td>
                <td>{event.ts}</td>
                <td>{event.alertname ?? "—"}</td>
                <td>{event.tenant ?? "—"}</td>
                <td>{event.action ?? "—"}</td>
                <td>{event.status ?? "—"}</td>
                <td className="details">{event.details ?? "—"}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {events.length === 0 && <p className="quiet">No events match.</p>}
      </div>
    </section>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  values: ReadonlyArray<string | null>;
  onChange: (value: string) => void;
}

/** A filter with the values that were seen. Those seen before stay, so that another can be chosen while filtered. */
function Choice({ label, value, values, onChange }: ChoiceProps) {
  const [seen] = useState(() => new Set<string>());
  for (const each of values) if (each !== null) seen.add(each);
  return (
    <label>
      {label}
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">all</option>
        {[...seen].sort().map((each) => (
          <option key={each}>{each}</option>
        ))}
      </select>
    </label>
  );
}
