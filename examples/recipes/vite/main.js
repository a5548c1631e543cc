import { subscribe } from "walcast-client";

const SHOWN = 50;
const status = document.getElementById("status");
const list = document.getElementById("events");

subscribe("/ws/remediation", {
  last: SHOWN,
  onStatus: ({ message }) => {
    status.textContent = message;
  },
  // What is shown is of another history, or rows are missing after it: the rows that follow replace it.
  onReset: () => list.replaceChildren(),
  onEvent: add,
});

// Any column may be NULL, and every value is text, never HTML.
function add({ id, alertname, tenant, status }) {
  const item = document.createElement("li");
  item.dataset.id = id;
  item.textContent = [alertname, tenant, status].map((value) => value ?? "—").join(" · ");
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastChild.remove();
}
