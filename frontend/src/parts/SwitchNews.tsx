// What the last change of a switch has come to: in sight, and read aloud.

import type { JSX } from "preact";
import { news, type Became, type News } from "../state/switching";

/** `otherwise`: what stands here before there is any. */
export function SwitchNews({ otherwise = "" }: { otherwise?: string }): JSX.Element {
  const now = news.value;
  return (
    <p class={`switch-news ${now?.state ?? "none"}`} aria-live="polite">
      {now ? told(now) : otherwise}
    </p>
  );
}

export function told(now: News): string {
  if (now.state === "refused") return now.message;
  if (now.state === "changing") return `Changing ${now.key} to ${now.value} …`;
  const with_it = now.also.length > 0 ? `, and with it ${now.also.map(is).join(", ")}` : "";
  return `${is(now)} now, after ${seconds(now.seconds)} s${with_it}.`;
}

const is = ({ key, value }: Became): string => `${key} is ${value}`;

/** To a tenth, or to the first digit that says anything. */
const seconds = (s: number): string => (s < 1 ? s.toPrecision(1) : s.toFixed(1));
