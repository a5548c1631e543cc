// A live list with nothing but the browser's own WebSocket: the last events, then each new one, none missed over a lost connection.
// ?server=http://host:port shows another daemon than the one on this machine.
const server = new URLSearchParams(location.search).get("server") ?? "http://127.0.0.1:8010";
const SHOWN = 50;

const [dot, note, list] = ["dot", "note", "events"].map((id) => document.getElementById(id));
let position = null; // { epoch, id } of the last row shown
let failures = 0;

function connect() {
  const start = position ? { since: position.id, epoch: position.epoch } : { last: SHOWN };
  const socket = new WebSocket(`${server.replace(/^http/, "ws")}/ws/remediation?${new URLSearchParams(start)}`);
  let wait = Math.min(15_000, 500 * 2 ** failures++) * (0.5 + Math.random() / 2);

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    switch (frame.type) {
      case "hello":
        // The rows shown are of another history, or some after them are gone: what follows replaces them.
        if (!frame.recovered) list.replaceChildren();
        position = { epoch: frame.epoch, id: frame.since };
        failures = 0;
        show(true, "Connected.");
        break;
      case "reset":
        list.replaceChildren();
        position = { epoch: frame.epoch, id: 0 };
        break;
      case "goodbye":
        wait = frame.reconnect_after_ms;
        break;
      case "remediation_event":
        position.id = frame.event.id;
        add(frame.event);
    }
  };
  socket.onclose = ({ code, reason }) => {
    if (code >= 4500) return show(false, `The server ended the subscription: ${reason || code}.`);
    show(false, `No connection to ${server}; trying again.`);
    setTimeout(connect, wait);
  };
}

function show(live, words) {
  dot.className = live ? "live" : "";
  dot.title = live ? "Live" : "Not connected";
  dot.setAttribute("aria-label", dot.title);
  note.textContent = words;
}

// Any column may be NULL, and every value is text, never HTML.
function add({ id, ts, alertname, tenant, action, status, details }) {
  const item = document.createElement("li");
  item.dataset.id = id;
  item.textContent = [ts, alertname, tenant, action, status, details].map((value) => value ?? "—").join(" · ");
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastChild.remove();
}

connect();
