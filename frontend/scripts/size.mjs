// The first load, compressed as a server would: all that the page needs before it can be used, which
// is what its HTML names. Other parts come after it, and are listed only.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const LIMIT_KIB = 90;
const dist = fileURLToPath(new URL("../../src/pellucid/web/dist/", import.meta.url));

const html = readFileSync(`${dist}index.html`, "utf8");
const isFirst = (name) => name === "index.html" || html.includes(name);
const files = ["index.html", ...readdirSync(`${dist}assets`).map((name) => `assets/${name}`)];
const sizes = files.map((name) => [name, gzipSync(readFileSync(dist + name), { level: 9 }).length / 1024]);
const total = sizes.reduce((sum, [name, size]) => sum + (isFirst(name) ? size : 0), 0);

for (const [name, size] of sizes)
    console.log(`${size.toFixed(1).padStart(6)} KiB  ${name}${isFirst(name) ? "" : " (later)"}`);
console.log(`${total.toFixed(1).padStart(6)} KiB  of ${LIMIT_KIB}`);
process.exitCode = total <= LIMIT_KIB ? 0 : 1;
