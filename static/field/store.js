// @ts-check
// What this phone keeps by itself: actions that aren't sent yet, fixes that aren't sent yet, and the last known rows.
//
// Knows nothing of what it keeps. Invariant: a promise of `put` resolves once the browser has committed it. Where the
// browser gives no IndexedDB everything lives in memory, and `lasting` is false so that the screen can say so.

const NAME = "fenghuo-field";
const VERSION = 1;
/** @typedef {"queue" | "fixes" | "cache"} StoreName */
/** @type {StoreName[]} */
const STORES = ["queue", "fixes", "cache"];

/** @type {Record<StoreName, Map<string, any>>} */
const memory = { queue: new Map(), fixes: new Map(), cache: new Map() };
let lasts = true;
/** @type {Promise<IDBDatabase | null> | null} */
let opening = null;

/** Whether what is kept survives closing the browser. */
export const lasting = () => lasts;

function database() {
  opening ??= new Promise((done) => {
    const fail = () => {
      lasts = false;
      done(null);
    };
    try {
      const request = indexedDB.open(NAME, VERSION);
      request.onupgradeneeded = () => {
        for (const store of STORES) request.result.createObjectStore(store);
      };
      request.onsuccess = () => done(request.result);
      request.onerror = fail;
      request.onblocked = fail;
    } catch {
      fail();
    }
  });
  return opening;
}

/**
 * @template T @param {StoreName} name @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T> | void} work @returns {Promise<T | undefined>}
 */
async function within(name, mode, work) {
  const opened = await database();
  if (!opened) return undefined;
  return new Promise((done, fail) => {
    const transaction = opened.transaction(name, mode, { durability: "strict" });
    const request = work(transaction.objectStore(name));
    transaction.oncomplete = () => done(request ? request.result : undefined);
    transaction.onerror = () => fail(transaction.error);
    transaction.onabort = () => fail(transaction.error);
  });
}

/** @param {StoreName} name @param {string} key @param {any} value */
export async function put(name, key, value) {
  memory[name].set(key, value);
  try {
    await within(name, "readwrite", (store) => void store.put(value, key));
  } catch {
    lasts = false; // no room, or the browser forbids it
  }
}

/** @param {StoreName} name @param {string[]} keys */
export async function remove(name, keys) {
  for (const key of keys) memory[name].delete(key);
  await within(name, "readwrite", (store) => {
    for (const key of keys) store.delete(key);
  }).catch(() => {});
}

/** All values in the order of their keys. @param {StoreName} name @returns {Promise<any[]>} */
export async function all(name) {
  const found = await within(name, "readonly", (store) => store.getAll()).catch(() => undefined);
  return found ?? [...memory[name].keys()].sort().map((key) => memory[name].get(key));
}

/** @param {string} key @returns {Promise<any>} */
export async function recall(key) {
  const found = await within("cache", "readonly", (store) => store.get(key)).catch(() => undefined);
  return found ?? memory.cache.get(key);
}

/** Forget the rows of the account that was signed in; what waits to be sent stays. */
export async function forgetRows() {
  memory.cache.clear();
  await within("cache", "readwrite", (store) => void store.clear()).catch(() => {});
}
