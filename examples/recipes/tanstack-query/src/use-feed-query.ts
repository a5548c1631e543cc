import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { type RemediationEvent, subscribe } from "walcast-client";

const LIMIT = 50;

interface Page {
  /** Newest first. */
  items: RemediationEvent[];
  /** The history the ids belong to. */
  epoch: string | null;
  /** The highest id there was when the page was read. */
  head: RemediationEvent["id"];
}

/** The newest rows of a feed as a query: read once over HTTP, and from there on kept as they are in the table. */
export function useFeedQuery(feed: string) {
  const client = useQueryClient();
  const queryKey = ["feed", feed];
  // Nothing is ever stale, so nothing is fetched again: the subscription brings what is new.
  const query = useQuery({ queryKey, queryFn: ({ signal }) => readNewest(feed, signal), staleTime: Number.POSITIVE_INFINITY });

  useEffect(() => {
    const page = client.getQueryData<Page>(["feed", feed]);
    if (!query.isSuccess || !page) return;
    const change = (changed: (page: Page) => Page) => client.setQueryData<Page>(["feed", feed], (now) => now && changed(now));
    const subscription = subscribe<RemediationEvent>(`/ws/${feed}`, {
      // After the last row that the cache holds, also where it is an hour old.
      since: page.items[0]?.id ?? page.head,
      epoch: page.epoch,
      onEvent: (row, { epoch }) => change(({ items, head }) => ({ items: [row, ...items].slice(0, LIMIT), epoch: epoch ?? page.epoch, head })),
      onReset: ({ epoch }) => change(() => ({ items: [], epoch, head: 0 })),
    });
    return () => subscription.close();
  }, [client, feed, query.isSuccess]);

  return query;
}

async function readNewest(feed: string, signal: AbortSignal): Promise<Page> {
  const answer = await fetch(`/api/feeds/${feed}/events?limit=${LIMIT}`, { signal });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `the server answers ${answer.status}`);
  return body;
}
