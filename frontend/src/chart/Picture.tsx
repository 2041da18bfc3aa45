// The frame that every chart stands in. What is painted is said in attributes, so that it looks the
// same when it is saved.

import type { ComponentChildren, JSX } from "preact";
import type { Frame } from "./geometry";

interface PictureProps {
  readonly frame: Pick<Frame, "width" | "height">;
  readonly summary: string;
  readonly look?: string;
  readonly onClick?: (event: MouseEvent) => void;
  readonly children: ComponentChildren;
}

export function Picture({ frame, summary, look = "chart", onClick, children }: PictureProps): JSX.Element {
  return (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      class={look}
      role="img"
      aria-label={summary}
      width={frame.width}
      height={frame.height}
      viewBox={`0 0 ${frame.width} ${frame.height}`}
      font-family="system-ui, sans-serif"
      {...(onClick && { onClick })}
    >
      {children}
    </svg>
  );
}
