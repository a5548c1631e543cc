import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Console } from "./console";
import "./console.css";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element #root");
createRoot(root).render(
  <StrictMode>
    <Console />
  </StrictMode>,
);
