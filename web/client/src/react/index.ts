"use client";
export { useFeed, type Feed, type UseFeedOptions } from "./use-feed.js";
export { useTable, type Table, type UseTableOptions } from "./use-table.js";
export { useRemediationWebSocket, type RemediationWebSocket } from "./use-remediation-websocket.js";
export { RecentRemediations, type RecentRemediationsProps } from "./recent-remediations.js";
export type { RemediationEvent } from "../remediation-event.js";
