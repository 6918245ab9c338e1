//! Documents: search and a list that stays smooth with many.

import { Component } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { announce, Empty, ErrorNote, useLoad } from "../components/basic";
import { Icon } from "../components/icons";
import { Inert } from "../components/text";
import { VirtualList } from "../components/virtual-list";
import type { Document } from "../lib/api";
import { DOCUMENTS_MAX, readCatalog, search, searchGateway, sort, type SortKey } from "../lib/catalog";
import * as format from "../lib/format";
import { address, replaceQuery, route } from "../lib/router";
import { session } from "../lib/session";

const COLUMNS: { key: SortKey; label: string }[] = [
  { key: "name", label: "Document" },
  { key: "bytes", label: "Size" },
  { key: "ratio", label: "Ratio" },
  { key: "fidelity", label: "Fidelity" },
  { key: "corrections", label: "Corrections" },
  { key: "stored_bytes", label: "Stored" },
  { key: "created", label: "Created" },
];

/** Heights of a row on a desktop and on a phone, as in the style sheet. */
const ROW_PX = 46;
const PHONE_ROW_PX = 84;
const isPhone = matchMedia("(max-width: 760px)");
/** Time without a key press after which the gateway is asked. */
const TYPING_MS = 250;

export function Documents() {
  const [text, setText] = useState(route.value.query.get("q") ?? "");
  const [order, setOrder] = useState<{ key: SortKey; isDescending: boolean }>({ key: "created", isDescending: true });
  const [arrived, setArrived] = useState(0);
  const catalog = useLoad((signal) => readCatalog(signal, setArrived), []);
  const isLarge = catalog.value !== null && !catalog.value.isComplete;
  const remote = useLoad(async (signal) => {
    if (!isLarge || text.trim() === "") return null;
    await new Promise((resolve) => setTimeout(resolve, TYPING_MS));
    return signal.aborted ? null : searchGateway(text, signal);
  }, [isLarge, text]);

  const isRemote = isLarge && text.trim() !== "";
  const source = isRemote ? remote.value : (catalog.value?.documents ?? null);
  const sorted = useMemo(() => source && sort(source, order.key, order.isDescending), [source, order]);
  const documents = useMemo(() => (sorted && !isRemote ? search(sorted, text) : sorted), [sorted, isRemote, text]);

  const change = (value: string) => {
    setText(value);
    replaceQuery("q", value === "" ? null : value);
  };
  useEffect(() => {
    if (documents === null || text === "") return;
    const timer = setTimeout(() => announce(`${format.plural(documents.length, "document")} found`), 600);
    return () => clearTimeout(timer);
  }, [documents, text]);

  const error = catalog.error ?? remote.error;
  return (
    <>
      <div class="page-head">
        <h1>Documents</h1>
        {session.may("write") && <a class="button primary" href={address("/try")}><Icon name="plus" /> Store a text</a>}
      </div>
      <div class="search">
        <Icon name="search" />
        <label class="sr-only" for="search">Search documents</label>
        <input
          id="search"
          type="search"
          value={text}
          placeholder="Name, label (lang=en) or beginning of an id"
          spellcheck={false}
          onInput={(event) => change(event.currentTarget.value)}
        />
        <span class="muted number" aria-hidden="true">
          {documents ? format.plural(documents.length, "document") : arrived > 0 ? `${format.count(arrived)} read` : ""}
        </span>
      </div>
      {isLarge && <p class="hint">The newest of the first {format.count(DOCUMENTS_MAX)} documents are listed. Searches cover all.</p>}
      {catalog.value && catalog.value.damaged.length > 0 ? (
        <div class="note bad">
          <Icon name="alert" />
          <p>{format.plural(catalog.value.damaged.length, "document")} cannot be read. Run <code>c3 fsck</code> to see why.</p>
        </div>
      ) : null}
      {error !== null ? <ErrorNote error={error} retry={catalog.reload} /> : null}
      <Table documents={documents} isLoading={error === null} order={order} setOrder={setOrder} filter={text} />
    </>
  );
}

interface TableProps {
  documents: Document[] | null;
  isLoading: boolean;
  filter: string;
  order: { key: SortKey; isDescending: boolean };
  setOrder: (order: TableProps["order"]) => void;
}

function Table({ documents, isLoading, filter, order, setOrder }: TableProps) {
  const [height, setHeight] = useState(isPhone.matches ? PHONE_ROW_PX : ROW_PX);
  useEffect(() => {
    const change = () => setHeight(isPhone.matches ? PHONE_ROW_PX : ROW_PX);
    isPhone.addEventListener("change", change);
    return () => isPhone.removeEventListener("change", change);
  }, []);
  if (documents === null && !isLoading) return null;
  if (documents?.length === 0) {
    return filter !== "" ? (
      <Empty title="No document matches">
        <p>Names and labels match if they contain the text, ids if they begin with it.</p>
      </Empty>
    ) : (
      <Empty title="No documents yet">
        {session.may("write") && <p><a href={address("/try")}>Store a first text</a>, or run <code>c3 put FILE</code>.</p>}
      </Empty>
    );
  }
  return (
    <div class="panel table" role="table" aria-label="Documents" aria-rowcount={(documents?.length ?? 0) + 1} aria-busy={documents === null}>
      <div role="rowgroup">
        <div role="row" class="row head" aria-rowindex={1}>
          {COLUMNS.map(({ key, label }) => {
            const isChosen = order.key === key;
            const direction = isChosen ? (order.isDescending ? "descending" : "ascending") : "none";
            return (
              <span role="columnheader" key={key} class={key} aria-sort={direction}>
                <button type="button" onClick={() => setOrder({ key, isDescending: isChosen ? !order.isDescending : key !== "name" })}>
                  {isChosen && <span aria-hidden="true">{order.isDescending ? "↓" : "↑"}</span>}{label}
                </button>
              </span>
            );
          })}
        </div>
      </div>
      {documents === null ? (
        <div role="rowgroup">
          {Array.from({ length: 12 }, (_, index) => (
            <div role="row" class="row" key={index}><span role="cell"><span class="skeleton" /><span class="sr-only">Loading</span></span></div>
          ))}
        </div>
      ) : (
        <VirtualList
          key={`${order.key} ${order.isDescending} ${filter}`}
          count={documents.length}
          height={height}
          row={(index) => <Row key={documents[index]!.id} document={documents[index]!} index={index} />}
        />
      )}
    </div>
  );
}

interface RowProps {
  document: Document;
  index: number;
}

/** A row renders once: while the list scrolls, only new rows cost time. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps) {
    return next.document !== this.props.document || next.index !== this.props.index;
  }

  override render({ document, index }: RowProps) {
    return renderRow(document, index);
  }
}

function renderRow(document: Document, index: number) {
  const labels = Object.entries(document.labels ?? {});
  const name = document.names?.[0];
  return (
    <div role="row" class="row" aria-rowindex={index + 2}>
      <span role="cell" class="name">
        <a href={address(`/documents/${document.id}`)}>
          {name ? <Inert text={name} /> : <code>{document.id.slice(0, 12)}</code>}
        </a>
        {name && <code class="muted">{document.id.slice(0, 8)}</code>}
        {labels.slice(0, 2).map(([key, value]) => <span class="label" key={key}><Inert text={`${key}=${value}`} /></span>)}
        {labels.length > 2 && <span class="muted">+{labels.length - 2}</span>}
      </span>
      <span role="cell" class="bytes">{format.bytes(document.bytes)}</span>
      <span role="cell" class="ratio">{format.ratio(document.ratio)}</span>
      <span role="cell" class="fidelity">{document.fidelity === null ? "–" : format.fidelity(document.fidelity)}</span>
      <span role="cell" class="corrections">{document.corrections === null ? "–" : format.count(document.corrections)}</span>
      <span role="cell" class="stored_bytes">{format.bytes(document.stored_bytes)}</span>
      <span role="cell" class="created">{format.date(document.created)}</span>
    </div>
  );
}
