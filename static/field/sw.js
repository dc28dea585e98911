// @ts-nocheck: a service worker has other globals than a page.
// The shell of the field page without a network: page, modules, styles, icons. Nothing of /api is ever kept or answered
// from here.
//
// The network comes first, so that an upgrade shows at once; after a failure or a wait the kept copy answers, and for a
// while after it without asking.

const CACHE = "fenghuo-field-1";
const WAIT_MS = 2500;
const BAD_FOR_MS = 20_000;
const SHELL = /^\/(field$|static\/|vendor\/)/;
let badUntil = 0;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(tidy()));
self.addEventListener("message", (event) => event.waitUntil(keep(event.data.keep ?? [])));
self.addEventListener("fetch", (event) => {
  const address = new URL(event.request.url);
  if (event.request.method !== "GET" || address.origin !== location.origin || !SHELL.test(address.pathname)) return;
  event.respondWith(answer(event.request));
});

async function tidy() {
  for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
  await self.clients.claim();
}

/** Fetch what the page says it needs: it was loaded before this worker ruled. */
async function keep(addresses) {
  const cache = await caches.open(CACHE);
  const missing = [];
  for (const address of addresses.filter((one) => SHELL.test(one)))
    if (!(await cache.match(address))) missing.push(address);
  await Promise.allSettled(missing.map(async (address) => refresh(cache, new Request(address))));
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept && Date.now() < badUntil) {
    void refresh(cache, request).catch(() => {});
    return kept;
  }
  const fresh = refresh(cache, request);
  if (!kept) return fresh;
  const late = new Promise((done) => setTimeout(() => done(null), WAIT_MS));
  const first = await Promise.race([fresh.catch(() => null), late]);
  if (first) return first;
  badUntil = Date.now() + BAD_FOR_MS;
  return kept;
}

async function refresh(cache, request) {
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}
