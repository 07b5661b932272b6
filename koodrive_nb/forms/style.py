"""How forms look: with the colours of JupyterLab, so that they are light or dark with it."""

from __future__ import annotations

STYLE = """<style>
.koodrive-form {
  --kd-ink: var(--jp-ui-font-color1, #24292f);
  --kd-quiet: var(--jp-ui-font-color2, #57606a);
  --kd-paper: var(--jp-layout-color1, #fff);
  --kd-band: var(--jp-layout-color2, #f5f7f9);
  --kd-line: var(--jp-border-color2, #d0d7de);
  --kd-accent: var(--jp-brand-color1, #1967c0);
  container-type: inline-size;
  color: var(--kd-ink);
  padding: 4px 2px;
  overflow: visible;
}
.koodrive-form .widget-html-content { line-height: 1.45; font-size: 13px; overflow-wrap: anywhere; }
.koodrive-form .widget-html { max-width: 100%; }
.koodrive-form .widget-html > .widget-html-content { min-width: 0; max-width: 100%; }
.koodrive-form .koodrive-inputs { --jp-widgets-inline-label-width: 96px; max-width: 640px; }
.koodrive-form .koodrive-inputs .widget-text { width: calc(100% - 4px); }
.koodrive-form .koodrive-inputs > .widget-toggle-buttons {
  display: flex; flex-flow: row nowrap; align-items: flex-start; width: auto;
}
.koodrive-form .koodrive-inputs > .widget-toggle-buttons > .widget-label {
  flex: 0 0 var(--jp-widgets-inline-label-width); margin-right: 8px; text-align: right;
}
.koodrive-form .koodrive-inputs .widget-toggle-button.mod-active {
  font-weight: 600; box-shadow: inset 0 -3px var(--kd-accent);
}
.koodrive-form .koodrive-inputs .koodrive-notice { margin-left: 104px; }
.koodrive-form .koodrive-inputs ~ .widget-button, .koodrive-form .koodrive-inputs ~ .widget-html {
  margin-left: 106px;
}
.koodrive-form .koodrive-row { flex-flow: row wrap; gap: 4px 10px; align-items: flex-end; }
.koodrive-form .koodrive-field > .widget-html { min-height: 0; }
.koodrive-form .koodrive-notice { padding: 2px 8px; border-left: 3px solid var(--kd-line); }
.koodrive-form .koodrive-notice.koodrive-done { border-color: #2e8555; }
.koodrive-form .koodrive-notice.koodrive-warning { border-color: #c8862b; }
.koodrive-form .koodrive-notice.koodrive-error { border-color: #bc492f; font-weight: 600; }
.koodrive-form .koodrive-quiet { color: var(--kd-quiet); }
.koodrive-form button:focus-visible, .koodrive-form input:focus-visible,
.koodrive-form select:focus-visible, .koodrive-form textarea:focus-visible,
.koodrive-form summary:focus-visible, .koodrive-form .koodrive-scroll:focus-visible {
  outline: 2px solid var(--kd-accent); outline-offset: 1px;
}
.koodrive-form .koodrive-scroll { overflow-x: auto; max-width: 100%; }
.koodrive-form .koodrive-scroll table {
  border-collapse: collapse; font-size: 12.5px; color: var(--kd-ink);
  font-variant-numeric: tabular-nums;
}
.koodrive-form .koodrive-scroll caption {
  text-align: left; padding: 2px 8px; font-weight: 600; caption-side: top;
}
.koodrive-form .koodrive-scroll th, .koodrive-form .koodrive-scroll td {
  text-align: left; padding: 3px 10px 3px 8px; border-bottom: 1px solid var(--kd-line);
  white-space: nowrap; vertical-align: top;
}
.koodrive-form .koodrive-scroll th { color: var(--kd-quiet); font-weight: 600; }
.koodrive-form .koodrive-scroll tbody tr:nth-child(even) { background: var(--kd-band); }
.koodrive-form .koodrive-number { text-align: right; }
.koodrive-form .koodrive-mark {
  display: inline-block; width: 9px; height: 9px; margin-right: 6px; border-radius: 2px;
}
.koodrive-form .koodrive-code div { display: flex; gap: 8px; align-items: flex-start; }
.koodrive-form .koodrive-code button { flex: none; }
.koodrive-form .koodrive-code code {
  flex: 1 1 auto; padding: 6px 8px; background: var(--kd-band); border: 1px solid var(--kd-line);
  border-radius: 4px; font-family: var(--jp-code-font-family, monospace); font-size: 12.5px;
  white-space: pre-wrap; user-select: all; color: var(--kd-ink);
}
.koodrive-form .koodrive-plot { overflow: hidden; }
.koodrive-form .koodrive-plot .js-plotly-plot { border-radius: 4px; overflow: hidden; }
.koodrive-form .koodrive-heading { line-height: 1.35; padding: 2px 0; }
.koodrive-form .koodrive-heading > b { font-size: 15px; }
.koodrive-form .koodrive-heading > .koodrive-quiet { font-size: 12px; }
.koodrive-form .koodrive-unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
.koodrive-form .koodrive-choices { align-items: flex-start; }
.koodrive-form .koodrive-choices .widget-select-multiple { flex-direction: column; width: 148px; }
.koodrive-form .koodrive-searches { align-items: flex-start; }
.koodrive-form .koodrive-searches .widget-text { flex-direction: column; height: auto; }
.koodrive-form .koodrive-searches > .koodrive-field > .widget-text { width: 148px; }
.koodrive-form .koodrive-searches .widget-select-multiple { height: 96px; }
.koodrive-form .koodrive-searches .widget-select-multiple select { height: 100%; }
.koodrive-form .koodrive-choices .widget-select-multiple > .widget-label,
.koodrive-form .koodrive-searches .widget-text > .widget-label {
  text-align: left; width: 100%; height: 20px; line-height: 20px;
}
.koodrive-form .koodrive-searches .widget-text > input { width: 100%; height: 26px; flex: none; }
.koodrive-form .koodrive-choices .widget-select-multiple select { width: 100%; }
.koodrive-form .koodrive-beside { display: flex; flex-flow: row nowrap; gap: 10px; width: 100%; }
.koodrive-form .koodrive-beside > * { flex: 1 1 0; min-width: 0; }
@container (max-width: 999px) {
  .koodrive-form .koodrive-beside { flex-flow: column nowrap; }
  .koodrive-form .koodrive-beside > * { flex: none; width: 100%; }
}
.koodrive-form .koodrive-card {
  border: 1px solid var(--kd-line); border-radius: 6px; padding: 8px 12px 10px; margin: 4px 0 8px;
  background: var(--kd-paper); color: var(--kd-ink);
}
.koodrive-form .koodrive-card h4 { margin: 0 0 6px; font-size: 14px; }
.koodrive-form .koodrive-card h5 { margin: 8px 0 2px; font-size: 12.5px; color: var(--kd-quiet); }
.koodrive-form .koodrive-card dl {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 14px; margin: 0;
}
.koodrive-form .koodrive-card dt, .koodrive-form .koodrive-card dd {
  float: none; width: auto; margin: 0; line-height: 1.45;
}
.koodrive-form .koodrive-card dt {
  color: var(--kd-quiet); font-weight: normal; white-space: nowrap;
}
.koodrive-form .koodrive-card dd { font-variant-numeric: tabular-nums; }
.koodrive-form .koodrive-id { font-family: var(--jp-code-font-family, monospace); font-size: 12px; }
.koodrive-form details > summary { cursor: pointer; }
.koodrive-form .koodrive-tree details > :not(summary) { margin-left: 16px; }
.koodrive-form .koodrive-tree .koodrive-leaf { padding-left: 14px; }
.koodrive-form .koodrive-card > details { margin-top: 8px; }
.koodrive-form .koodrive-card pre {
  margin: 4px 0 0; padding: 8px; max-height: 320px; overflow: auto; white-space: pre-wrap;
  background: var(--kd-band); color: var(--kd-ink); border: 1px solid var(--kd-line);
  border-radius: 4px; font-family: var(--jp-code-font-family, monospace); font-size: 12px;
}
.koodrive-form .koodrive-list ul {
  margin: 2px 0 6px; padding-left: 20px; max-height: 180px; overflow: auto;
}
</style>"""
