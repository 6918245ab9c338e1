//! uPlot with its style sheet, in a chunk of its own.

import "uplot/dist/uPlot.min.css";

export { default } from "uplot";
