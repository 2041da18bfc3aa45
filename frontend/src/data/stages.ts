// The stages in the order they are stacked, from the axis up. Attention lies on the axis, so that
// its share can be read off directly; `other`, what no stage claims, is always on top.
//
// Every colour has a contrast of 3:1 or more against both the light and the dark page.

export const OTHER = "other";

export interface Part {
  readonly key: string;
  readonly label: string;
  readonly about: string;
  readonly color: string;
}

export type Detail = "groups" | "stages";

interface Stage extends Part {
  readonly group: string;
}

const UNKNOWN = "#a06a9c";

const STAGES: readonly Stage[] = [
  stage("attention", "attention", "scores, softmax, weighted values", "#c5573c", "attention"),
  stage("kv_write", "KV write", "new keys and values into the cache", "#b8735e", "small"),
  stage("qkv", "QKV", "queries, keys and values, with rotation", "#4f7396", "matrices"),
  stage("o_proj", "O projection", "heads back to the model's width", "#6f91b1", "matrices"),
  stage("mlp", "MLP", "the two or three wide matrices", "#5f809f", "matrices"),
  stage("router", "router", "which experts a token goes to", "#3a8391", "matrices"),
  stage("experts", "experts", "the chosen experts' matrices", "#4b97a5", "matrices"),
  stage("lm_head", "LM head", "logits over the vocabulary", "#7893ae", "matrices"),
  stage("norm", "norm", "norms and residuals", "#868a98", "small"),
  stage("embed", "embedding", "rows of the embedding", "#8d93a3", "small"),
  stage("sample", "sampling", "from logits to a token", "#767d90", "small"),
  stage("draft", "draft", "guessing tokens ahead", "#8b7a45", "small"),
  stage("verify", "verify", "accepting or refusing guesses", "#9c8a50", "small"),
  stage("grammar", "grammar", "which tokens the grammar allows", "#85804a", "small"),
  stage("all_reduce", "all-reduce", "sums between devices", "#6d7a8c", "small"),
  stage("queue", "queue", "waiting for a place", "#5a7f68", "host"),
  stage("tokenize", "tokenize", "text to tokens", "#6f9a80", "host"),
  stage("schedule", "schedule", "who runs in this step", "#648b74", "host"),
  stage("prepare", "prepare", "inputs of the step", "#5a7f68", "host"),
  stage("host_gap", "host gap", "device waits for the host", "#5a7f68", "host"),
  stage("detokenize", "detokenize", "tokens to text", "#6f9a80", "host"),
  stage(OTHER, "other", "wall time that no stage claims", "#85868a", OTHER),
];

const GROUPS: readonly Part[] = [
  { key: "attention", label: "attention", about: "scores, softmax, weighted values", color: "#c5573c" },
  { key: "matrices", label: "matrices", about: "QKV, output projection, MLP, LM head", color: "#5f809f" },
  { key: "small", label: "small steps", about: "norms, embedding, KV write, sampling", color: "#868a98" },
  { key: "host", label: "host", about: "scheduling, inputs, detokenizing", color: "#648b74" },
  { key: OTHER, label: "other", about: "wall time that no stage claims", color: "#85868a" },
];

function stage(key: string, label: string, about: string, color: string, group: string): Stage {
  return { key, label, about, color, group };
}

function unknown(key: string): Stage {
  return stage(key, key, "a stage this page does not know", UNKNOWN, key);
}

function find(key: string): Stage {
  return STAGES.find((known) => known.key === key) ?? unknown(key);
}

/** The part that a stage counts for: itself, or its group. An unknown one is its own group. */
export function partOf(key: string, detail: Detail): string {
  return detail === "stages" ? key : find(key).group;
}

/** The parts that these stages make, from the axis up; unknown ones below `other`. */
export function partsOf(stages: readonly string[], detail: Detail): Part[] {
  const wanted = new Set(stages.map((key) => partOf(key, detail)));
  wanted.add(OTHER);
  const known: readonly Part[] = detail === "stages" ? STAGES : GROUPS;
  const named = known.filter((part) => wanted.has(part.key) && part.key !== OTHER);
  const strange = [...wanted].filter((key) => !known.some((part) => part.key === key)).sort();
  return [...named, ...strange.map(unknown), find(OTHER)];
}

/** Those of the first, and before its last, which is `other`, those that only the second has. */
export function eitherOf(first: readonly Part[], second: readonly Part[]): readonly Part[] {
  const added = second.filter(({ key }) => !first.some((part) => part.key === key));
  const before = first.filter(({ key }) => key !== OTHER);
  return [...before, ...added, ...first.filter(({ key }) => key === OTHER)];
}

export const allColors = (): string[] => [...STAGES, ...GROUPS].map((part) => part.color).concat(UNKNOWN);
