import { keepRenewed } from "../desk/renew.js";

keepRenewed(document.getElementById("clients"), document.getElementById("clients-stale"));
