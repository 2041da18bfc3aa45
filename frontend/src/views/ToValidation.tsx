import type { JSX } from "preact";
import { encode } from "../state/link";
import { go, link } from "../state/navigation";

/** From anything that is modelled to how well the model predicts; the runs that are shown stay. */
export function ToValidation({ text = "How well it predicts" }: { text?: string }): JSX.Element {
  return (
    <a
      href={encode({ ...link.value, view: "validation" })}
      onClick={(event) => {
        event.preventDefault(); // the address follows by itself
        go({ view: "validation" });
      }}
    >
      {text}
    </a>
  );
}
