// Drives Debian's Firefox over WebDriver BiDi for tests/browser/harness_firefox.py.
//
// Reads one JSON command per line on standard input, {id, command, ...arguments}, answers one line each, {id, value} or
// {id, error}, in order of completion. Ends when standard input does. It is no test and knows nothing of Fenghuo.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../../static/package.json", import.meta.url));
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")).href);

const settings = JSON.parse(process.argv[2]);
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: settings.executable,
  headless: true,
  acceptInsecureCerts: settings.accept_insecure_certs,
  extraPrefsFirefox: settings.prefs,
  args: ["--width=1280", "--height=800"],
});

const pages = new Map();
let lastPage = 0;

async function open({ width, height }) {
  const page = await browser.newPage();
  await page.setViewport({ width, height });
  const seen = { requests: [], console: [], errors: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  lastPage += 1;
  pages.set(lastPage, { page, seen });
  return lastPage;
}

const located = (page, { selector, timeout_ms }) => page.locator(selector).setTimeout(timeout_ms);

const commands = {
  version: () => browser.version(),
  open,
  goto: async (page, { url, timeout_ms }) => {
    const answer = await page.goto(url, { timeout: timeout_ms, waitUntil: "load" });
    return answer ? answer.status() : null;
  },
  evaluate: (page, { source, argument }) => page.evaluate(new Function("argument", `return (${source})(argument)`), argument),
  wait: async (page, { source, argument, timeout_ms }) => {
    const body = new Function("argument", `return (${source})(argument)`);
    const handle = await page.waitForFunction(body, { timeout: timeout_ms, polling: 50 }, argument);
    return handle.jsonValue();
  },
  click: (page, command) => located(page, command).click(),
  fill: (page, command) => located(page, command).fill(command.text),
  type: async (page, command) => {
    await located(page, command).click();
    await page.keyboard.type(command.text);
  },
  press: (page, { key }) => page.keyboard.press(key),
  visible: async (page, command) => { await located(page, command).wait(); },
  text: (page, command) => located(page, command).map((element) => element.textContent).wait(),
  screenshot: async (page, { path, full_page }) => { await page.screenshot({ path, fullPage: full_page }); },
  seen: (_page, { entry }) => entry.seen,
  close: async (page, { page: number }) => { await page.close(); pages.delete(number); },
};

async function run(command) {
  if (command.command === "open" || command.command === "version") return commands[command.command](command);
  const entry = pages.get(command.page);
  if (!entry) throw new Error(`no page ${command.page}`);
  if (!Object.hasOwn(commands, command.command)) throw new Error(`no command ${command.command}`);
  return commands[command.command](entry.page, { ...command, entry });
}

function answer(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  run(command).then(
    (value) => answer({ id: command.id, value: value ?? null }),
    (error) => answer({ id: command.id, error: String(error?.stack ?? error) }),
  );
}
await browser.close();
process.exit(0);
