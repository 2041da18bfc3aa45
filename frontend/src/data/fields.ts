// Looking at what came from elsewhere, field by field. A file that does not fit is refused with the
// name of the field that is wrong and what was expected there.

export class BadFile extends Error {}

export type Fields = Readonly<Record<string, unknown>>;

export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BadFile(`This is not JSON (${String(error instanceof Error ? error.message : error)}).`);
  }
}

export function record(value: unknown, at: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw wrong(at, value, "an object");
}

export function list(value: unknown, at: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw wrong(at, value, "a list");
}

export function text(value: unknown, at: string): void {
  if (typeof value !== "string") throw wrong(at, value, "text");
}

export function number(value: unknown, at: string): void {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(at, value, "a number");
}

export function positive(value: unknown, at: string): void {
  number(value, at);
  if (Number(value) <= 0) throw wrong(at, value, "a number above 0");
}

export function count(value: unknown, at: string): void {
  if (!Number.isInteger(value) || Number(value) < 1) throw wrong(at, value, "a whole number of 1 or more");
}

export function oneOf(value: unknown, choices: readonly unknown[], at: string): void {
  if (!choices.includes(value)) throw new BadFile(`${at} is ${show(value)}; it can be ${either(choices)}.`);
}

export function wrong(at: string, value: unknown, expected: string): BadFile {
  return new BadFile(
    value === undefined ? `${at} is missing.` : `${at} is ${show(value)}; expected ${expected}.`,
  );
}

export function show(value: unknown): string {
  const json = JSON.stringify(value) ?? "missing";
  return json.length > 40 ? `${json.slice(0, 40)}…` : json;
}

function either(choices: readonly unknown[]): string {
  const names = choices.map(String);
  return [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" or ");
}
