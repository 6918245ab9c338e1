//! Documents: search and a list that stays smooth with many.

import { Component } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { announce, Empty, ErrorNote, useLoad } from "../components/basic";
import { Icon } from "../components/icons";
import { Inert } from "../components/text";
import { VirtualList } from "../components/virtual-list";
import type { Document } from "../lib/api";
import { DOCUMENTS_MAX, readCatalog, search, searchGateway, sort, withNames, type Filter, type SortKey } from "../lib/catalog";
import * as format from "../lib/format";
import { readNames } from "../lib/names";
import { DEFAULT_NAMESPACE, documentAddress, namespace, useNamespace } from "../lib/namespace";
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
  const [isNamed, setNamed] = useState(route.value.query.has("named"));
  const chosen = useNamespace();
  const [order, setOrder] = useState<{ key: SortKey; isDescending: boolean }>({ key: "created", isDescending: true });
  const [arrived, setArrived] = useState(0);
  const catalog = useLoad((signal) => readCatalog(signal, setArrived), []);
  const names = useLoad((signal) => readNames(chosen, signal), [chosen]);
  const filter = useMemo<Filter>(() => ({ text, namespace: chosen, isNamed }), [text, chosen, isNamed]);
  const isLarge = catalog.value !== null && !catalog.value.isComplete;
  const isRemote = isLarge && (text.trim() !== "" || isNamed);
  const remote = useLoad(async (signal) => {
    if (!isRemote) return null;
    await new Promise((resolve) => setTimeout(resolve, TYPING_MS));
    return signal.aborted ? null : searchGateway(filter, signal);
  }, [isRemote, filter]);

  const source = isRemote ? remote.value : (catalog.value?.documents ?? null);
  const named = useMemo(() => source && names.value && withNames(source, names.value), [source, names.value]);
  const sorted = useMemo(() => named && sort(named, order.key, order.isDescending), [named, order]);
  const documents = useMemo(() => (sorted && !isRemote ? search(sorted, filter) : sorted), [sorted, isRemote, filter]);

  const change = (value: string) => {
    setText(value);
    replaceQuery("q", value === "" ? null : value);
  };
  const changeNamed = (value: boolean) => {
    setNamed(value);
    replaceQuery("named", value ? "1" : null);
  };
  useEffect(() => {
    if (documents === null || text === "") return;
    const timer = setTimeout(() => announce(`${format.plural(documents.length, "document")} found`), 600);
    return () => clearTimeout(timer);
  }, [documents, text]);

  const failed = [catalog, names, remote].find(({ error }) => error !== null);
  return (
    <>
      <div class="page-head">
        <h1>Documents</h1>
        {session.may("write") && <a class="button primary" href={address("/try")}><Icon name="plus" /> Store a text</a>}
      </div>
      <div class="filters">
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
        </div>
        <NamespaceField chosen={chosen} />
        <label class="check">
          <input type="checkbox" checked={isNamed} onChange={(event) => changeNamed(event.currentTarget.checked)} /> Only named
        </label>
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
      {failed ? <ErrorNote error={failed.error} retry={failed.reload} /> : null}
      <Table documents={documents} isLoading={!failed} order={order} setOrder={setOrder} filter={filter} />
    </>
  );
}

/** Chooses the namespace whose names are shown. It is read when the field is left or Enter is pressed. */
function NamespaceField({ chosen }: { chosen: string }) {
  const [typed, setTyped] = useState(chosen);
  useEffect(() => setTyped(chosen), [chosen]);
  const choose = () => {
    namespace.choose(typed);
    setTyped(namespace.value);
  };
  return (
    <form class="namespace" onSubmit={(event) => (event.preventDefault(), choose())}>
      <label for="namespace">Namespace</label>
      <input
        id="namespace"
        value={typed}
        placeholder={DEFAULT_NAMESPACE}
        title="The list shows the names that documents have in this namespace"
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        onInput={(event) => setTyped(event.currentTarget.value)}
        onChange={choose}
      />
    </form>
  );
}

interface TableProps {
  documents: Document[] | null;
  isLoading: boolean;
  filter: Filter;
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
    if (filter.text !== "") {
      return (
        <Empty title="No document matches">
          <p>Names and labels match if they contain the text, ids if they begin with it.</p>
        </Empty>
      );
    }
    return filter.isNamed ? (
      <Empty title="No document has a name here">
        <p>The namespace <b><Inert text={filter.namespace} /></b> has no names. Open a document to give it one.</p>
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
          key={`${order.key} ${order.isDescending} ${filter.text} ${filter.isNamed} ${filter.namespace}`}
          count={documents.length}
          height={height}
          row={(index) => <Row key={documents[index]!.id} document={documents[index]!} namespace={filter.namespace} index={index} />}
        />
      )}
    </div>
  );
}

interface RowProps {
  document: Document;
  namespace: string;
  index: number;
}

/** A row renders once: while the list scrolls, only new rows cost time. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps) {
    return next.document !== this.props.document || next.index !== this.props.index;
  }

  override render(props: RowProps) {
    return renderRow(props);
  }
}

function renderRow({ document, namespace, index }: RowProps) {
  const labels = Object.entries(document.labels ?? {});
  const name = document.names?.[0];
  return (
    <div role="row" class="row" aria-rowindex={index + 2}>
      <span role="cell" class="name">
        <a href={documentAddress(document.id, namespace)}>
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
