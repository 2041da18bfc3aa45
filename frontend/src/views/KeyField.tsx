import type { JSX } from "preact";
import { keyWanted } from "../api/client";
import { giveKey } from "../state/server";

/** Asked for only when the server refused; kept until the page is closed and stored nowhere. */
export function KeyField(): JSX.Element | null {
  if (!keyWanted.value) return null;
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const key = new FormData(event.currentTarget as HTMLFormElement).get("key");
    if (typeof key === "string" && key) void giveKey(key);
  };
  return (
    <form class="banner" onSubmit={submit}>
      <label for="key">This server asks for an API key. It is kept until this page is closed.</label>
      <input id="key" name="key" type="password" autocomplete="off" required />
      <button type="submit" class="primary">
        Use this key
      </button>
    </form>
  );
}
