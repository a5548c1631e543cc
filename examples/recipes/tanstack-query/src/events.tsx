import { useFeedQuery } from "./use-feed-query";

export function Events() {
  const { data, error } = useFeedQuery("remediation");
  if (error) return <p id="status">{error.message}</p>;
  return (
    <ul id="events">
      {data?.items.map(({ id, alertname, tenant, status }) => (
        <li key={id} data-id={id}>
          {alertname ?? "—"} · {tenant ?? "—"} · {status ?? "—"}
        </li>
      ))}
    </ul>
  );
}
