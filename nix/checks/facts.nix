# What must hold for the units of any machine with castlog.
{ lib, config }:
let
  cfg = config.services.castlog;
  ours = lib.filterAttrs (name: _: lib.hasPrefix "castlog-" name) config.systemd.services;
  known = map (name: "${name}.service") (lib.attrNames config.systemd.services);
  isOurs = name: lib.hasSuffix ".service" name;
  services = lib.filterAttrs (_: unit: unit.serviceConfig.Type == "exec") ours;
  users = lib.mapAttrsToList (_: unit: unit.serviceConfig.User) services;
  seeds = lib.concatMap (unit: lib.filter (lib.hasPrefix "nkey:") unit.serviceConfig.LoadCredential) (
    lib.attrValues services
  );
in
{
  "each unit that another names is there" = lib.all (
    unit:
    lib.all (name: !isOurs name || lib.elem name known) (unit.after ++ unit.wants ++ unit.requires)
  ) (lib.attrValues ours);
  "what a unit wants, it starts after" = lib.all (
    unit: lib.all (name: lib.elem name unit.after) (unit.wants ++ unit.requires)
  ) (lib.attrValues ours);
  "every unit is hardened" = lib.all (
    unit:
    unit.serviceConfig.ProtectSystem == "strict"
    && unit.serviceConfig.NoNewPrivileges
    && unit.serviceConfig.CapabilityBoundingSet == ""
  ) (lib.attrValues ours);
  "only the pipeline may make memory executable" = lib.all (
    name: ours.${name}.serviceConfig.MemoryDenyWriteExecute || lib.hasPrefix "castlog-pipeline" name
  ) (lib.attrNames ours);
  "no service is root, and each has its user" = lib.all (
    user: config.users.users ? ${user} && config.users.users.${user}.isSystemUser
  ) users;
  "each service has one seed, its own" =
    lib.length seeds == lib.length (lib.attrNames services)
    && lib.all (
      unit:
      let
        service = lib.last (lib.splitString "castlog-" unit.serviceConfig.User);
      in
      lib.elem "nkey:${cfg.credentials.files."${service}.nk"}" unit.serviceConfig.LoadCredential
    ) (lib.attrValues services);
  "a service starts again for ever" = lib.all (
    unit: unit.serviceConfig.Restart == "always" && unit.startLimitIntervalSec == 0
  ) (lib.attrValues services);
  "health endpoints have ports of their own" =
    let
      ports = lib.mapAttrsToList (_: unit: unit.environment.CASTLOG_ADMIN__LISTEN) services;
    in
    lib.unique ports == ports;
}
