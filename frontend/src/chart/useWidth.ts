// The width that an element has on the page, kept up to date: text in a chart keeps its size.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";

const FIRST = 640;
const LEAST = 280;

export function useWidth<T extends HTMLElement>(): [RefObject<T | null>, number] {
  const element = useRef<T | null>(null);
  const [width, setWidth] = useState(FIRST);
  useLayoutEffect(() => {
    const target = element.current;
    if (!target) return;
    const read = (): void => setWidth(Math.max(LEAST, Math.floor(target.clientWidth)));
    read();
    const observer = new ResizeObserver(read);
    observer.observe(target);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}
