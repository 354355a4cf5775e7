import { useSpeech } from "../i18n";
import type { FacetRow } from "../search-state";

interface Props {
  name: string;
  legend: string;
  rows: FacetRow[];
  label: (value: string) => string;
  onToggle: (value: string) => void;
}

/** Check boxes with counts. Several within a facet widen the search. */
export function Facet({ name, legend, rows, label, onToggle }: Props) {
  const { t } = useSpeech();
  return (
    <fieldset className="facet" data-facet={name}>
      <legend>{legend}</legend>
      {rows.length === 0 && <p className="facet-none">{t("search.no_facet")}</p>}
      <ul>
        {rows.map(({ value, count, selected }) => (
          <li key={value}>
            <label>
              <input type="checkbox" name={name} value={value} checked={selected} onChange={() => onToggle(value)} />
              <span className="facet-value" dir="auto">
                {label(value)}
              </span>
              <span className="facet-count">{count}</span>
            </label>
          </li>
        ))}
      </ul>
    </fieldset>
  );
}
