// The console in Chromium: every page at two widths, by axe, and what people do on them.
//
// Variables: CONSOLE (address), TOKEN (an API token) or LINK (a one-time link), CHROMIUM (the program), SHOTS
// (a directory for pictures; may be left out). Requests to the server's test are lines on standard output:
// "event", "restart".
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { CONSOLE: address, TOKEN: token, LINK: link, CHROMIUM: executablePath, SHOTS: shots } = process.env;
const part = process.argv[2];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// Errors of scripts, and what the policy of a page refused.
const complaints = [];

async function opened(width, colorScheme, more) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width, height: 900 },
    colorScheme,
    extraHTTPHeaders: link ? {} : { authorization: `Bearer ${token}` },
    ...more,
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    const isOfNetwork = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isOfNetwork) complaints.push(`${page.url()}: ${message.text()}`);
  });
  return page;
}

async function looked(page, name) {
  const size = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(size[0] <= size[1], `${name}: the page is ${size[0]} wide, the window ${size[1]}`);
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  const told = grave.map((one) => `${one.id}: ${one.help}\n${one.nodes.map((node) => node.html).join("\n")}`);
  assert.deepEqual(told, [], name);
}

// Every place, and the first thing that each list leads to.
async function everyPage() {
  for (const [width, scheme] of [[360, "dark"], [1440, "light"]]) {
    const page = await opened(width, scheme);
    const urls = ["/", "/devices", "/devices?where=os%3A", "/groups", "/applications", "/policies", "/policies/edit"];
    urls.push("/tasks", "/tasks/new", "/events", "/access", "/audit", "/server", "/help", "/nothing");
    urls.push("/api", "/api?operation=post_policies", "/api?type=Device");
    await page.goto(`${address}/devices`);
    const device = await page.locator("td a[href^='/devices/']").first();
    if (await device.count()) urls.push(await device.getAttribute("href"));
    for (const url of urls) {
      await page.goto(address + url);
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      const name = url.replace(/[^a-z]+/gi, "-").replace(/^-|-$/g, "") || "overview";
      await looked(page, `${part}-${name.slice(0, 24)}-${width}`);
    }
    await page.context().close();
  }
}

async function work() {
  const page = await opened(1440, "light");
  const main = page.locator("main");
  const sees = (text) => main.getByText(text).first().waitFor({ timeout: 60_000 });
  await page.goto(`${address}/`);

  // By keys alone to a device, and another group for it.
  await page.keyboard.press("/");
  await page.keyboard.type("name:kiosk-*");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "kiosk-17" }).click();
  await page.getByText("Change it").first().click();
  await page.getByLabel("Group").fill("/shops");
  await page.getByRole("button", { name: "Save" }).click();
  await sees("Saved.");

  // A policy with a fault, then seen before it is saved, and taken back.
  await page.goto(`${address}/policies/edit?group=/shops&application=muster`);
  const settings = page.getByLabel("Settings (JSON)");
  await settings.fill('{"status": {"lost": {"critical_after": }}}');
  await page.getByRole("button", { name: "Preview" }).click();
  await page.getByRole("alert").waitFor();
  assert.match(await settings.inputValue(), /critical_after/);
  await settings.fill('{"status": {"lost": {"critical_after": "3d"}}}');
  await page.getByRole("button", { name: "Preview" }).click();
  await sees("Not saved yet.");
  await page.getByRole("button", { name: "Save" }).click();
  await sees("critical_after");
  await main.getByRole("link", { name: "muster", exact: true }).click();
  await settings.fill('{"status": {"lost": {"critical_after": "5d"}}}');
  await page.getByRole("button", { name: "Save" }).click();
  await sees("5d");

  // Back to what it was: what differs, the same preview, and then saved; and removed once it was asked.
  await main.getByRole("link", { name: "history" }).click();
  await sees('status.lost.critical_after: "3d" -> "5d"');
  await looked(page, "work-history-1440");
  await page.getByRole("link", { name: "compare, go back" }).click();
  await sees('"3d"');
  await looked(page, "work-history-of-two-1440");
  await page.getByRole("button", { name: "Go back to revision" }).click();
  await sees("Not saved yet.");
  await looked(page, "work-preview-1440");
  await page.getByRole("button", { name: "Save" }).click();
  await sees("3d");
  await main.getByRole("link", { name: "muster", exact: true }).click();
  await page.getByRole("button", { name: "Remove" }).click();
  await sees("Remove the policy for muster?");
  await page.getByRole("button", { name: "Remove the policy" }).click();
  await sees("There is no policy.");

  // A task on a filter, whose number is said before, and its end.
  await page.goto(`${address}/tasks/new?where=name%3Akiosk-*`);
  await page.getByLabel("Application").fill("kiosk");
  await page.getByLabel("Kind").fill("restart");
  await page.getByRole("button", { name: "Continue" }).click();
  await sees("It is for 1 device, now.");
  await page.getByRole("button", { name: "Make it" }).click();
  await sees("The task is made");
  await page.getByRole("button", { name: "Cancel this task" }).click();
  await sees("The task is cancelled.");

  // Events come by themselves, through a restart of the server.
  await page.goto(`${address}/events?severity=error`);
  await page.getByText("New events appear here by themselves.").waitFor();
  console.log("event");
  await sees("event number 1");
  console.log("restart");
  await page.getByText("trying again").waitFor();
  await page.getByText("New events appear here by themselves.").waitFor({ timeout: 60_000 });
  console.log("event");
  await sees("event number 2");
  assert.equal(await page.getByText("event number 1").count(), 1, "none comes twice");

  // A step of the certificate, once it was asked.
  await page.goto(`${address}/server`);
  assert.equal(await page.getByRole("button", { name: "Retire the former key" }).count(), 0);
  await page.getByRole("button", { name: "Prepare the next key …" }).click();
  await sees("devices store its pin");
  await looked(page, "work-rotation-1440");
  await page.getByRole("button", { name: "Prepare the next key" }).click();
  await sees("Done:");
  await page.getByRole("button", { name: "Switch to the next key …" }).waitFor();

  // Without a script all can be read, and changed.
  const plain = await opened(360, "dark", { javaScriptEnabled: false });
  await plain.goto(`${address}/devices?where=kiosk`);
  await plain.getByRole("link", { name: "kiosk-17" }).click();
  await plain.getByRole("button", { name: "Sync now" }).click();
  await plain.getByText("1 device asked to sync now.").waitFor();
}

// In by a one-time link, out, in by the password, and what does not work.
async function signIn() {
  const page = await opened(360, "light");
  const main = page.locator("main");
  const sees = (text) => main.getByText(text).first().waitFor({ timeout: 60_000 });
  const press = (name) => page.getByRole("button", { name }).click();
  await page.goto(`${address}/devices?where=kiosk`);
  assert.match(page.url(), /\/sign-in\?next=/);
  await looked(page, "sign-in-360");
  await page.goto(link);
  assert.equal(new URL(page.url()).hash, "", "the secret is not left in the address");
  await looked(page, "welcome-360");
  const password = page.getByLabel("New password");
  await password.fill("four words make one");
  await page.getByLabel("The same again").fill("four words make two");
  await press("Set the password and sign in");
  await sees("the two passwords are not the same");
  await password.fill("four words make one");
  await page.getByLabel("The same again").fill("four words make one");
  await press("Set the password and sign in");
  await sees("There is no device yet.");
  const [first] = await page.context().cookies();
  assert.deepEqual([first.name, first.httpOnly, first.secure, first.sameSite], ["__Host-muster", true, true, "Strict"]);
  await page.goto(`${address}/access`);
  await sees("anna");
  await press("Sign out");
  await sees("You are signed out.");
  await page.context().addCookies([first]);
  await page.goto(`${address}/devices?where=kiosk`);
  assert.match(page.url(), /\/sign-in\?next=/, "the cookie of a session that has ended opens nothing");
  await page.getByLabel("Name").fill("anna");
  await page.getByLabel("Password").fill("wrong words");
  await press("Sign in");
  await sees("the name or the password is wrong");
  await page.getByLabel("Password").fill("four words make one");
  await press("Sign in");
  await page.waitForURL(`${address}/devices?where=kiosk`);
  const cookies = await page.context().cookies();
  assert.ok(cookies.every((cookie) => cookie.value !== first.value), "a sign-in makes a session of its own");

  // Locked out by wrong passwords: the right one does not help then.
  await press("Sign out");
  await page.evaluate(async () => {
    const body = () => new URLSearchParams({ user: "anna", password: "wrong words" });
    for (let tries = 0; tries < 25; tries += 1) await fetch("/sign-in", { method: "POST", body: body() });
  });
  await page.getByLabel("Name").fill("anna");
  await page.getByLabel("Password").fill("four words make one");
  await press("Sign in");
  await sees("too many passwords were wrong");
  await looked(page, "sign-in-locked-360");
}

// A task for a filter: how many that is, what it does, its end and its output.
async function task() {
  const page = await opened(1440, "light");
  const main = page.locator("main");
  const sees = (text) => main.getByText(text).first().waitFor({ timeout: 60_000 });
  await page.goto(`${address}/tasks/new?where=name%3Akio*`);
  await page.getByLabel("Application").fill("shop");
  await page.getByLabel("Kind").fill("work");
  await page.getByLabel("Settings (JSON)").fill('{\n  "times": 5\n}');
  await page.getByRole("button", { name: "Continue" }).click();
  await sees("It is for 1 device, now.");
  await looked(page, "task-asked-1440");
  await page.getByRole("button", { name: "Make it" }).click();
  await sees("The task is made, for 1 device.");
  await sees("5 times");
  await looked(page, "task-running-1440");
  console.log("go");
  await sees("succeeded");
  await main.locator("a[href^='/runs/']").click();
  await sees("the end of it");
  await looked(page, "task-output-1440");
}

// What waits is let in, and what is lost is found, from the first page on.
async function fleet() {
  const page = await opened(360, "dark");
  const main = page.locator("main");
  const sees = (text) => main.getByText(text).first().waitFor({ timeout: 60_000 });
  await page.goto(`${address}/`);
  await looked(page, "fleet-overview-360");
  await main.getByRole("link", { name: "kiosk-18" }).click();
  await page.getByRole("button", { name: "Approve" }).click();
  await sees("Approved.");
  for (let looks = 0; looks < 120; looks += 1) {
    await page.goto(`${address}/`);
    if (await main.getByRole("link", { name: "1 lost" }).count()) break;
    await page.waitForTimeout(1000);
  }
  await main.getByRole("link", { name: "1 lost" }).click();
  await main.getByRole("link", { name: "kiosk-17" }).click();
  await sees("kiosk-17 is lost");
  await looked(page, "fleet-lost-360");
}

// A reader of a part of the fleet: nothing of the others on any page, and nothing that changes anything.
async function reader() {
  const page = await opened(1440, "light");
  const urls = ["/", "/devices", "/devices?where=office", "/groups", "/applications", "/policies", "/policies/edit"];
  urls.push("/tasks", "/tasks/new", "/events", "/access", "/audit", "/server", "/devices/kiosk-17", "/devices/office-1");
  urls.push("/events?device=kiosk-17", "/policies/history?group=/shops&application=muster");
  for (const url of urls) {
    await page.goto(address + url);
    const main = page.locator("main");
    const text = (await main.textContent()).replace("there is no device 'office-1'", "");
    assert.ok(!text.includes("office-1") && !text.includes("/offices"), `${url}: ${text}`);
    assert.ok(!text.includes("door of the office"), `${url}: ${text}`);
    assert.equal(await main.locator("form[method=post]").count(), 0, `${url} has a form that changes something`);
    const changes = "a[href^='/policies/edit'], a[href^='/tasks/new'], a[href^='/groups?path=']";
    assert.equal(await main.locator(changes).count(), 0, `${url} leads to a change`);
    await looked(page, `reader-${url.replace(/[^a-z]+/gi, "-")}-1440`);
  }
  await page.goto(`${address}/devices/kiosk-17`);
  await page.getByText("the paper is out").waitFor();
}

// A fleet as it might be. Its picture is that of the README.
async function picture() {
  for (const [width, height, scheme] of [[360, 800, "dark"], [1280, 800, "light"]]) {
    const page = await opened(width, scheme);
    await page.setViewportSize({ width, height });
    for (const url of ["/", "/devices", "/groups"]) {
      await page.goto(address + url);
      const name = `picture-${url.replace("/", "") || "overview"}-${width}`;
      await looked(page, name);
      if (shots) await page.screenshot({ path: `${shots}/${name}-window.png` });
    }
  }
}

// More tabs than a browser opens connections to one server: all follow the events, over one.
async function tabs() {
  const pages = [await opened(1440, "light")];
  while (pages.length < 10) pages.push(await pages[0].context().newPage());
  for (const page of pages) await page.goto(`${address}/events`);
  for (const page of pages) await page.getByText("New events appear here by themselves.").waitFor();
  assert.equal(await pages[9].evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2");
  console.log("event");
  for (const page of pages) await page.getByText("event number 1").waitFor();
  console.log("many events");
  for (const page of pages) await page.getByText("more, not shown here").first().waitFor();
  for (const page of pages) await page.getByText("event number 500").first().waitFor();
  assert.equal(await pages[0].locator("tbody tr").evaluateAll((rows) => rows.length < 300), true);
}

const parts = { "sign-in": signIn, tabs, work, task, fleet, reader, picture };

await (parts[part] ?? everyPage)();
assert.deepEqual(complaints, []);
await browser.close();
