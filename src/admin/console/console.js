// Keys, copying, times that stay true. Every page works without it.
const page = document;

page.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const places = { o: "/", d: "/devices", e: "/events", t: "/tasks" };
  if (page.body.dataset.go) {
    delete page.body.dataset.go;
    if (places[event.key]) location.assign(places[event.key]);
  } else if (event.key === "/") {
    event.preventDefault();
    page.getElementById("find").focus();
  } else if (event.key === "?") {
    location.assign("/help");
  } else if (event.key === "g") {
    page.body.dataset.go = "1";
  }
});

for (const button of page.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(page.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// As the server says it: the largest unit, rounded down.
function relative(stamp) {
  const seconds = Math.trunc((Date.now() - Date.parse(stamp)) / 1000);
  if (seconds === 0) return "now";
  const [unit, length] = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]].find((one) => Math.abs(seconds) >= one[1]);
  const text = Math.trunc(Math.abs(seconds) / length) + unit;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

setInterval(() => {
  for (const time of page.querySelectorAll("time")) time.textContent = relative(time.dateTime);
}, 15000);

// Rows that come to the top of a table; those who have scrolled keep their place. A stream that breaks off is
// taken up again where it was: the browser names the id of the last row.
const rows = page.querySelector("tbody[data-live]");
if (rows) {
  const state = page.getElementById("live");
  const stream = new EventSource(rows.dataset.live);
  stream.addEventListener("open", () => (state.textContent = "New events appear here by themselves."));
  stream.addEventListener("error", () => {
    const isOver = stream.readyState === EventSource.CLOSED;
    state.textContent = isOver ? "New events don't appear: too many look on, or you are signed out. Load the page again." : "The server is away; trying again.";
  });
  stream.addEventListener("gone", () => (state.textContent = "Some events were deleted before they could be shown."));
  stream.addEventListener("row", (event) => {
    const before = page.documentElement.scrollHeight;
    rows.insertAdjacentHTML("afterbegin", event.data);
    page.querySelector(".nothing")?.remove();
    while (rows.children.length > 500) rows.lastElementChild.remove();
    if (scrollY > 0) scrollBy(0, page.documentElement.scrollHeight - before);
  });
}

// A page that changes by itself, as long as nobody types or selects on it.
const main = page.querySelector("main[data-live]");
async function renewed() {
  if (page.hidden || main.contains(page.activeElement) && page.activeElement !== main || !getSelection().isCollapsed) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  main.replaceChildren(...fresh.childNodes);
  if (!fresh.dataset.live) clearInterval(renewing);
}
const renewing = main && setInterval(() => renewed().catch(() => {}), 3000);

// A one-time link: its secret stands behind the #, which no browser sends by itself.
if (location.pathname === "/welcome" && location.hash) {
  page.querySelector("input[name=link]").value = location.hash.slice(1);
  history.replaceState(null, "", "/welcome");
}
