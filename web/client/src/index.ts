export { compareIds, type Id } from "./ids.js";
export { FeedError, type FeedErrorCode } from "./errors.js";
export type {
  EventMeta,
  FeedState,
  FeedStatus,
  Filters,
  FilterValue,
  Position,
  Reset,
  Sharing,
  SubscribeOptions,
  Timing,
  Transport,
  WebSocketLike,
} from "./options.js";
export type { Row } from "./protocol.js";
export { subscribe, type Subscription } from "./subscription.js";
export { subscribeTable, type TableChange, type TableKey, type TableOptions, type TableSubscription } from "./table.js";
export type { RemediationEvent } from "./remediation-event.js";
