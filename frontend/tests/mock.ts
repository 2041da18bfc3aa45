// A server that stands in for the engine: the built page with the headers of the real one, and
// answers that are always the same.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import type { Capabilities, Counts, CurvesBody, Switch, Switched } from "../src/api/types";
import type { Calibration } from "../src/data/calibration";
import type { News } from "../src/data/news";
import type { Kind } from "../src/data/provenance";
import type { RunFile } from "../src/data/runfile";
import { lookedAt, type Wish } from "./looked";
import { FAR_COUNTS, ON_GPU_COUNTS, PAIRS, RECORDED, RECORDED_COUNTS } from "./recorded";
import { RECORDINGS } from "./recordings";
import { HERE, sampleAnswers, sampleRun, THERE } from "./sample";
import { TOY_KNOWN, toyCurves } from "./toy";

// Another build than the one that is served can be tested beside it.
const DIST = process.env.DIST ?? fileURLToPath(new URL("../../src/pellucid/web/dist", import.meta.url));
const POLICY =
  "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** What a test may set and look at. */
export interface Mock {
  readonly url: string;
  runs: RunFile[];
  /** Of all runs, in place of their own. */
  kind: Kind | null;
  /** Of runs by their id; what has none here is refused. */
  calibrations: Calibration[];
  /** How often one was asked for. */
  fits: number;
  /** Of runs by their id; a run that has none here lacks what the model needs. */
  counts: Counts[];
  /** What curves were asked of, oldest first, and how long they take. */
  curves: CurvesBody[];
  modelling: number;
  busy: boolean;
  /** Rows as they are now, what was asked of them, and how long a change takes. */
  switches: readonly Switch[];
  changes: Record<string, string>[];
  building: number;
  /** What was asked to be looked into. */
  looks: Wish[];
  key: string;
  /** Milliseconds between the events of a stream. */
  pause: number;
  /** What the engine tells whoever watches: all of this, and what is added. */
  events: News[];
  /** How many are told before the connection breaks, once; 0: it does not. */
  breakAfter: number;
  /** What those who watch have seen before, by their word. */
  lastIds: string[];
  /** Completions that were asked for, and what the engine then tells. */
  completions: Record<string, unknown>[];
  onComplete: News[];
  /** Streams that the page closed before their end. */
  cancelled: number;
  close(): Promise<void>;
}

export async function startMock(): Promise<Mock> {
  const mock: Mock = {
    url: "",
    runs: [HERE, THERE],
    kind: null,
    calibrations: PAIRS.map(({ fit }) => fit),
    fits: 0,
    counts: [RECORDED_COUNTS, ON_GPU_COUNTS, FAR_COUNTS],
    curves: [],
    modelling: 0,
    busy: false,
    switches: SWITCHES,
    changes: [],
    building: 30,
    looks: [],
    key: "",
    pause: 15,
    events: [...RECORDINGS.small.file.news],
    breakAfter: 0,
    lastIds: [],
    completions: [],
    onComplete: [],
    cancelled: 0,
    close: async () => undefined,
  };
  const server = createServer((request, response) => void answer(mock, request, response));
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  };
  return Object.assign(mock, { url: `http://127.0.0.1:${port}/`, close });
}

async function answer(mock: Mock, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? "/", "http://mock").pathname;
  const api = path.startsWith("/explorer/") || path.startsWith("/v1/");
  if (!api) return file(path, response);
  if (mock.key && request.headers.authorization !== `Bearer ${mock.key}`) {
    return json(response, { error: { message: "missing or wrong API key" } }, 401);
  }
  const body = request.method === "POST" ? ((await read(request)) as Record<string, unknown>) : {};
  if (path === "/explorer/v1/capabilities")
    return json(response, { ...CAPABILITIES, switches: mock.switches });
  if (path === "/explorer/v1/runs") return json(response, { runs: mock.runs.map((run) => entry(mock, run)) });
  if (path.startsWith("/explorer/v1/runs/"))
    return oneRun(mock, path.slice("/explorer/v1/runs/".length), response);
  if (path === "/explorer/v1/answers") return json(response, { answers: sampleAnswers(body.run as RunFile) });
  if (path === "/explorer/v1/calibrate") return calibrate(mock, body.run as RunFile, response);
  if (path === "/explorer/v1/counts") return counts(mock, body.run as RunFile, response);
  if (path === "/explorer/v1/curves") return curves(mock, body as unknown as CurvesBody, response);
  if (path === "/explorer/v1/known") return json(response, TOY_KNOWN);
  if (path === "/explorer/v1/measure") return measure(mock, body, response);
  if (path === "/explorer/v1/switches") return change(mock, body as Record<string, string>, response);
  if (path === "/explorer/v1/attention") return look(mock, body as unknown as Wish, response);
  if (path === "/explorer/v1/events") return watch(mock, request, response);
  if (path === "/v1/completions") {
    mock.completions.push(body);
    mock.events.push(...mock.onComplete.splice(0));
    return json(response, { choices: [] });
  }
  if (path === "/v1/chat/completions") return chat(mock, response);
  json(response, { error: { message: "no such path" } }, 404);
}

function file(path: string, response: ServerResponse): void {
  const name = join(DIST, normalize(path === "/" ? "/index.html" : path));
  const served = path === "/" || path.startsWith("/assets/"); // and nothing else, as the real one
  if (!served || !name.startsWith(DIST) || !existsSync(name) || !statSync(name).isFile())
    return json(response, {}, 404);
  response.writeHead(200, {
    "Content-Type": TYPES[extname(name)] ?? "application/octet-stream",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
  });
  createReadStream(name).pipe(response);
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

async function read(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return JSON.parse(text);
}

const kindOf = (mock: Mock, run: RunFile): Kind =>
  mock.kind ?? (run.environment.gpu || run.id === RECORDED.id ? "recorded" : "measured");

const entry = (mock: Mock, run: RunFile): object => ({
  id: run.id,
  date: run.environment.date,
  model: run.model.name,
  device: run.environment.gpu ?? run.environment.cpu,
  kind: kindOf(mock, run),
  phases: [...new Set(run.cells.map(({ phase }) => phase))],
  switches: run.engine.switches,
});

function oneRun(mock: Mock, id: string, response: ServerResponse): void {
  const run = mock.runs.find((known) => known.id === id);
  if (!run) return json(response, { error: { message: "no such run" } }, 404);
  json(response, { run, answers: sampleAnswers(run, kindOf(mock, run)) });
}

function calibrate(mock: Mock, run: RunFile, response: ServerResponse): void {
  mock.fits += 1;
  const found = mock.calibrations.find((calibration) => calibration.run === run.id);
  if (found) return json(response, found);
  const message = "the run has 5 cells, and calibrating needs 6: measure more lengths, or both phases";
  json(response, { error: { message } }, 400);
}

function counts(mock: Mock, run: RunFile, response: ServerResponse): void {
  const found = mock.counts.find((counted) => counted.run === run.id);
  if (found) return json(response, found);
  json(response, { error: { message: "model.spec is missing" } }, 400);
}

async function curves(mock: Mock, body: CurvesBody, response: ServerResponse): Promise<void> {
  mock.curves.push(body);
  await new Promise((worked) => setTimeout(worked, mock.modelling));
  if (body.config === null || (body.config && !("hidden_size" in (body.config as object))))
    return json(response, { error: { message: "config.json has no hidden_size", param: "config" } }, 400);
  json(response, toyCurves(body));
}

/** Send events one after another; a closed connection ends them. */
async function stream(mock: Mock, response: ServerResponse, events: readonly unknown[]): Promise<void> {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let open = true;
  response.on("close", () => (open = false));
  for (const event of events) {
    if (!open) {
      mock.cancelled += 1;
      return;
    }
    response.write(`data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
    await new Promise((later) => setTimeout(later, mock.pause));
  }
  response.end();
}

function measure(mock: Mock, body: Record<string, unknown>, response: ServerResponse): Promise<void> | void {
  if (mock.busy && body.force !== true)
    return json(response, { error: { message: "The engine is busy with 2 requests." } }, 409);
  const run = sampleRun({ id: "d4".repeat(32), seed: 21, date: "2026-11-24T20:00:00+00:00" });
  const total = 20;
  const progress = Array.from({ length: total }, (_, done) => ({
    type: "progress",
    done: done + 1,
    total,
    text: `block ${1 + Math.floor(done / 2)} of 10`,
  }));
  return stream(mock, response, [
    { type: "estimate", seconds: 38.2 },
    ...progress,
    { type: "run", run, answers: sampleAnswers(run) },
  ]);
}

/** All that there is from where the reader was, and what comes, until it goes. */
async function watch(mock: Mock, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const last = String(request.headers["last-event-id"] ?? "");
  mock.lastIds.push(last);
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let open = true;
  response.on("close", () => (open = false));
  for (let place = Number(last.replace("mock-", "")); open; place++) {
    while (open && place >= mock.events.length) await new Promise((later) => setTimeout(later, mock.pause));
    if (mock.breakAfter && place === mock.breakAfter) {
      mock.breakAfter = 0;
      await new Promise((later) => setTimeout(later, 200)); // what was written is read first
      response.destroy();
      return;
    }
    response.write(`id: mock-${place + 1}\ndata: ${JSON.stringify(mock.events[place])}\n\n`);
  }
}

/** What cannot be had is refused; what does not work with the new value becomes off. */
async function change(mock: Mock, asked: Record<string, string>, response: ServerResponse): Promise<void> {
  mock.changes.push(asked);
  const begun = performance.now();
  await new Promise((built) => setTimeout(built, mock.building));
  const refuse = (param: string, message: string, status: number): void =>
    json(response, { error: { message, param, code: status === 409 ? "busy" : null } }, status);
  for (const [key, value] of Object.entries(asked)) {
    if (mock.busy)
      return refuse(key, `${key} cannot change while a measurement runs; try again after it`, 409);
    const found = mock.switches.find((row) => row.key === key)?.values.find((one) => one.value === value);
    if (!found || found.why_not || key === "batching") return refuse(key, REFUSED, 400);
    mock.switches = mock.switches.map((row) => became(row, key, value));
  }
  const seconds = (performance.now() - begun) / 1e3;
  const answer: Switched = { switches: mock.switches, engine: CAPABILITIES.engine, seconds };
  json(response, answer);
}

function look(mock: Mock, wish: Wish, response: ServerResponse): void {
  mock.looks.push(wish);
  const found = lookedAt(wish);
  if (found) return json(response, found);
  json(response, { error: { message: "the text has too many tokens: shorten it", param: "text" } }, 400);
}

const REFUSED =
  "batching cannot be static: only one sequence fits in the memory of this machine; start with a smaller max_seqs";

function became(row: Switch, key: string, value: string): Switch {
  if (row.key === key) return { ...row, current: value, why: "as you chose" };
  const follows = row.key === "overlap" && key === "kv_cache" && value === "off";
  return follows ? { ...row, current: "off", why: "it does not work with kv_cache off" } : row;
}

const REPLY =
  "A llama is a tame animal of the Andes, kept for its wool and for carrying loads. It hums when it is content, and spits when it is not.";

function chat(mock: Mock, response: ServerResponse): Promise<void> {
  const pieces = REPLY.match(/\S+\s*/g) ?? [];
  const chunks = pieces.map((content) => ({
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
  }));
  const usage = { choices: [], usage: { prompt_tokens: 12, completion_tokens: pieces.length } };
  return stream(mock, response, [
    { choices: [{ index: 0, delta: { role: "assistant", content: "" } }] },
    ...chunks,
    usage,
    "[DONE]",
  ]);
}

function row(
  key: string,
  current: string,
  off: string,
  choices: string[],
  why: string,
  about: string,
  paper: string,
  lacking: Record<string, string> = {},
): Switch {
  const flag = `--${key.replace("_", "-")}`;
  const values = choices.map((value) => ({ value, why_not: lacking[value] ?? "" }));
  return { key, choices, default: "auto", off, current, values, why, flag, about, paper, exactness: "token" };
}

const SWITCHES: readonly Switch[] = [
  row(
    "kv_cache",
    "on",
    "off",
    ["on", "off"],
    "the default",
    "Keep the keys and values of all earlier tokens, so that a new token costs one row of work instead of the whole prefix again. Off forgets them after every token.",
    "Pope et al. 2022, arXiv:2211.05102",
  ),
  row(
    "attention",
    "flash",
    "naive",
    ["flash", "sdpa", "naive"],
    "our kernels run here and read the KV cache's blocks where they lie",
    "Compute attention in tiles with a running softmax instead of writing the n×n score matrix to memory.",
    "Dao et al. 2022, arXiv:2205.14135",
  ),
  row(
    "batching",
    "continuous",
    "static",
    ["continuous", "dynamic", "static"],
    "the default",
    "Let a waiting request join at the next step.",
    "Yu et al. 2022 (Orca), OSDI",
  ),
  row(
    "graphs",
    "off",
    "off",
    ["on", "off"],
    "CUDA graphs need an NVIDIA GPU, and the device is cpu",
    "Record a step once for each shape that it is padded to, and replay it in one call.",
    "Gray 2019, Getting Started with CUDA Graphs (NVIDIA)",
    { on: "graphs on: CUDA graphs need an NVIDIA GPU, and the device is cpu; or use graphs off" },
  ),
  row(
    "overlap",
    "off",
    "off",
    ["on", "off"],
    "a CPU computes where the host does",
    "Prepare the next step on the host while the device computes this one.",
    "Zhu et al. 2024 (NanoFlow), arXiv:2408.12757",
  ),
  row(
    "chunked_prefill",
    "512",
    "0",
    ["8192", "512", "64", "7", "1", "0"],
    "512 on a CPU",
    "Compute a long prompt in pieces of so many tokens a step.",
    "Agrawal et al. 2024 (Sarathi-Serve), arXiv:2403.02310",
  ),
  row(
    "fused_kernels",
    "on",
    "off",
    ["on", "off"],
    "the default",
    "Compute what reads and writes the same rows in one kernel.",
    "Dao et al. 2022, arXiv:2205.14135",
  ),
];

const CAPABILITIES: Capabilities = {
  model: {
    name: "smollm2",
    weight_bytes: 98362432,
    kv_bytes_per_token: 46080,
    context_length: 8192,
    spec: {
      num_layers: 30,
      num_heads: 9,
      num_kv_heads: 3,
      head_dim: 64,
      hidden_size: 576,
      intermediate_size: 1536,
      vocab_size: 49152,
      sliding_window: null,
    },
  },
  engine: { device: "cpu", dtype: "float32" },
  device: "AMD EPYC, 2 cores",
  switches: SWITCHES,
  measure: {
    lengths: [64, 128, 256, 512, 1024, 2048, 4096],
    phases: ["decode", "prefill"],
    batches: [1],
    blocks: 10,
    max_seconds: 45,
    by_itself: false,
  },
};
