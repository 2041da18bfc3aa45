// The arithmetic of the pool: what fits, what is in it, what is wasted, and what the step computes.

import type { JSX } from "preact";
import type { Scene } from "../data/scene";
import { bytes, inBlocks } from "../data/told";
import { inTokens, percent, tokens } from "../data/words";
import { bytesPerToken } from "../state/watching";

export function KvFacts({ scene }: { scene: Scene }): JSX.Element {
  const { numBlocks, blockSize, numUsed, stored, computed, fresh } = scene;
  const places = numUsed * blockSize;
  const empty = places - stored;
  const each = bytesPerToken();
  const again = computed - fresh;
  const forgot = scene.event?.happened.some(({ type }) => type === "forgot");
  const shared = [...scene.blocks.values()].reduce(
    (sum, { owners, change }) => sum + (change === "freed" ? 0 : owners.length - 1),
    0,
  );
  return (
    <div class="facts">
      <dl>
        <Fact name="blocks in use" value={tokens(numUsed)}>
          {`of ${tokens(numBlocks)}${each > 0 ? `: ${bytes(numUsed * blockSize * each)}` : ""}`}
        </Fact>
        <Fact name={forgot ? "stored during the step" : "tokens stored"} value={tokens(stored)}>
          {[
            each > 0 && stored > 0 && `${bytes(stored * each)} of keys and values`,
            forgot && "forgotten after it",
          ]
            .filter(Boolean)
            .join(", ")}
        </Fact>
        <Fact name="computed in this step" value={tokens(computed)}>
          {again > 0 ? `${tokens(fresh)} new, ${tokens(again)} again` : computed > 0 ? "all of them new" : ""}
        </Fact>
        <Fact name="saved by sharing" value={tokens(shared)}>
          {shared > 0 && each > 0
            ? `${shared === 1 ? "block" : "blocks"}: ${bytes(shared * blockSize * each)}`
            : "blocks"}
        </Fact>
      </dl>
      <p>
        <strong>Capacity.</strong>{" "}
        {each > 0
          ? `${inBlocks(numBlocks)} × ${inTokens(blockSize)} × ${tokens(each)} bytes = ${bytes(numBlocks * blockSize * each)}: `
          : `${inBlocks(numBlocks)} × ${inTokens(blockSize)}: `}
        {`room for ${inTokens(numBlocks * blockSize)}.`}
      </p>
      <p>
        <strong>Internal fragmentation.</strong>{" "}
        {places === 0
          ? "No block is in use, so nothing is wasted."
          : `${tokens(empty)} of the ${tokens(places)} places in used blocks are empty (${percent(empty / places)}): a sequence's last block is filled little by little. Without blocks, room for the longest possible answer would have to be kept from the start.`}
      </p>
      {again > 0 && (
        <p>
          <strong>Computed again.</strong>{" "}
          {`For ${inTokens(fresh, "new")} the step computes ${inTokens(computed)}: the keys and values of the others were known once and are not kept.`}
        </p>
      )}
    </div>
  );
}

interface FactProps {
  readonly name: string;
  readonly value: string;
  readonly children: string;
}

const Fact = ({ name, value, children }: FactProps): JSX.Element => (
  <div>
    <dt>{name}</dt>
    <dd>
      <span class="number">{value}</span> <span class="note">{children}</span>
    </dd>
  </div>
);
