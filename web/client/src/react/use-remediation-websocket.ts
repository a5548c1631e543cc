"use client";
// The hook that consoles have had all along, on a connection that resumes.
import { useEffect, useRef, useState } from "react";
import type { SubscribeOptions } from "../options.js";
import type { RemediationEvent } from "../remediation-event.js";
import { subscribe } from "../subscription.js";
import { connectionKey, isOpen, latestToken } from "./connection-key.js";

export interface RemediationWebSocket<R> {
  /** The newest event, null before the first. Each event is this for one render at least, so an effect on it sees every one, in order. */
  readonly lastEvent: R | null;
  readonly isConnected: boolean;
}

/** New events of a feed, one at a time. Events missed while disconnected follow after. A null `url` subscribes to nothing. Name your own type of event as `R`. */
export function useRemediationWebSocket<R extends object = RemediationEvent>(
  url: string | null = "/ws/remediation",
  options: Omit<SubscribeOptions<R>, "signal" | "onEvent"> = {},
): RemediationWebSocket<R> {
  const [lastEvent, setLastEvent] = useState<R | null>(null);
  const [isConnected, setConnected] = useState(false);
  const latest = useRef(options);
  const committed = useRef(() => {});
  useEffect(() => {
    latest.current = options;
  });
  // Declared before any effect of the caller's, but run in the same pass: the next event is set when all of them have run.
  // biome-ignore lint/correctness/useExhaustiveDependencies: it runs because of the event, which it has no use for
  useEffect(() => committed.current(), [lastEvent]);
  const key = url === null ? null : connectionKey(url, options);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the address and for the options of a connection
  useEffect(() => {
    if (url === null) return undefined;
    let mounted = true;
    const subscription = subscribe<R>(url, {
      ...latest.current,
      ...latestToken(latest),
      onStatus: (status) => {
        if (mounted) setConnected(isOpen(status.state));
        latest.current.onStatus?.(status);
      },
    });
    // Taken one by one from the iterator, which holds no more than its bound when rendering is slower than the feed.
    void (async () => {
      for await (const event of subscription) {
        if (!mounted) return;
        setLastEvent(event);
        await new Promise<void>((resolve) => (committed.current = resolve));
      }
    })().catch(() => setConnected(false));
    return () => {
      mounted = false;
      subscription.close();
      setConnected(false);
    };
  }, [key]);
  return { lastEvent, isConnected };
}
