// The KV cache as the engine uses it: which sequence holds which block, moment by moment.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import {
  exampleRuns,
  exampleTrouble,
  isLive,
  scene,
  sendExample,
  source,
  span,
  startWatching,
  stopWatching,
  streamNews,
  watchEngine,
} from "../state/watching";
import { KvFacts } from "./KvFacts";
import { KvFigure } from "./KvFigure";
import { KvImport, KvSave } from "./KvFiles";
import { KvBlocksTable, KvTable } from "./KvTables";
import { KvTimeline } from "./KvTimeline";

export function KvCacheView(): JSX.Element {
  useEffect(() => {
    startWatching();
    return stopWatching;
  }, []);
  const shown = scene.value;
  const quiet = !shown || (span.value?.last === 1 && shown.sequences.length === 0);
  return (
    <section class="kv">
      <h2>KV cache</h2>
      <p class="lead">
        Keys and values are kept in blocks of {shown?.blockSize ?? "a few"} tokens. A sequence takes a block
        when its last one is full, may share blocks with others that begin alike, and gives them back when it
        ends or has to make room.
      </p>
      <Stream />
      {quiet ? <Quiet /> : null}
      {shown && !quiet && (
        <>
          <KvTimeline scene={shown} />
          <div class="split">
            <KvFigure scene={shown} />
            <KvFacts scene={shown} />
          </div>
          <KvTable scene={shown} />
          <KvBlocksTable scene={shown} />
          <KvSave scene={shown} />
        </>
      )}
      <KvImport />
    </section>
  );
}

/** Where the moments come from, and how it stands with that. */
function Stream(): JSX.Element {
  const file = source.value?.file;
  return (
    <div class="controls">
      <p class="note" role="status">
        {file
          ? `From the file ${file}.`
          : streamNews.value || (isLive.value ? "Told live by the engine." : "Asking the engine …")}
      </p>
      {file ? (
        <button type="button" onClick={watchEngine}>
          Back to the engine
        </button>
      ) : (
        <Example />
      )}
    </div>
  );
}

function Example(): JSX.Element {
  return (
    <>
      <button
        type="button"
        aria-disabled={exampleRuns.value || !isLive.value}
        onClick={() => isLive.value && void sendExample()}
      >
        {exampleRuns.value ? "The example is running …" : "Send a small example"}
      </button>
      {exampleTrouble.value && <span role="alert">{exampleTrouble.value}</span>}
    </>
  );
}

function Quiet(): JSX.Element {
  return (
    <p class="empty small">
      {isLive.value
        ? "Nothing is running, and all blocks are free. Send the small example: four requests of different lengths, one of which asks for three answers that share their prompt's blocks."
        : "There are no events to show yet."}
    </p>
  );
}
