# The functions of nixpkgs' lib that castlog uses, and what the stub needs itself.
let
  inherit (builtins)
    attrNames
    concatLists
    concatStringsSep
    elem
    elemAt
    filter
    genList
    isAttrs
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    removeAttrs
    split
    stringLength
    substring
    ;

  lib = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      hasAttr
      head
      isAttrs
      isList
      isString
      length
      listToAttrs
      mapAttrs
      match
      readFile
      replaceStrings
      tail
      ;

    # Attribute sets.
    genAttrs = names: value: lib.listToAttrs (map (name: lib.nameValuePair name (value name)) names);
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    optionalAttrs = condition: set: if condition then set else { };
    attrByPath =
      path: default: set:
      if path == [ ] then
        set
      else if isAttrs set && set ? ${lib.head path} then
        lib.attrByPath (lib.tail path) default set.${lib.head path}
      else
        default;
    setAttrByPath =
      path: value:
      if path == [ ] then value else { ${lib.head path} = lib.setAttrByPath (lib.tail path) value; };
    recursiveUpdate =
      old: new:
      old
      // mapAttrs (
        name: value:
        if isAttrs value && isAttrs (old.${name} or null) then
          lib.recursiveUpdate old.${name} value
        else
          value
      ) new;
    isDerivation = value: value.type or null == "derivation";
    mergeAttrsList = lib.foldl' (all: set: all // set) { };
    getAttrs = names: set: lib.genAttrs names (name: set.${name});

    # Lists.
    inherit (builtins) foldl';
    concatMapStringsSep =
      separator: f: list:
      concatStringsSep separator (map f list);
    concatMapStrings = lib.concatMapStringsSep "";
    concatStrings = concatStringsSep "";
    flatten = list: if isList list then concatLists (map lib.flatten list) else [ list ];
    imap1 = f: list: genList (n: f (n + 1) (elemAt list n)) (length list);
    last = list: elemAt list (length list - 1);
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    range = first: end: if first > end then [ ] else genList (n: first + n) (end - first + 1);
    unique = lib.foldl' (seen: value: if elem value seen then seen else seen ++ [ value ]) [ ];
    subtractLists = without: filter (value: !elem value without);
    zipAttrsWith =
      f: sets:
      lib.genAttrs (lib.unique (concatLists (map attrNames sets))) (
        name: f name (map (set: set.${name}) (filter (set: set ? ${name}) sets))
      );

    # Strings.
    optionalString = condition: text: if condition then text else "";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      stringLength text >= stringLength suffix
      && substring (stringLength text - stringLength suffix) (-1) text == suffix;
    hasInfix = infix: text: length (split (lib.escapeRegex infix) text) > 1;
    escapeRegex =
      lib.replaceStrings
        [
          "."
          "*"
          "+"
          "?"
          "("
          ")"
          "["
          "]"
          "{"
          "}"
          "|"
          "^"
          "$"
          "\\"
        ]
        [
          "\\."
          "\\*"
          "\\+"
          "\\?"
          "\\("
          "\\)"
          "\\["
          "\\]"
          "\\{"
          "\\}"
          "\\|"
          "\\^"
          "\\$"
          "\\\\"
        ];
    splitString = separator: text: filter isString (split (lib.escapeRegex separator) text);
    toInt = text: builtins.fromJSON text;
    toUpper =
      let
        small = lib.splitChars "abcdefghijklmnopqrstuvwxyz";
        large = lib.splitChars "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
      in
      lib.replaceStrings small large;
    splitChars = text: genList (n: substring n 1 text) (stringLength text);
    escapeShellArg =
      value:
      if match "[[:alnum:],._+:@%/-]+" (toString value) != null then
        toString value
      else
        "'${lib.replaceStrings [ "'" ] [ "'\\''" ] (toString value)}'";
    escapeShellArgs = lib.concatMapStringsSep " " lib.escapeShellArg;
    versionAtLeast = have: wanted: builtins.compareVersions have wanted >= 0;
    boolToString = value: if value then "true" else "false";
    generators.toJSON = _: builtins.toJSON;

    # Files.
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    fileset = {
      # Each part must be there, as with nixpkgs.
      unions =
        paths:
        lib.foldl' (
          all: path:
          if builtins.pathExists path then
            all ++ [ path ]
          else
            throw "fileset: ${toString path} does not exist"
        ) [ ] paths;
      toSource =
        { root, fileset }:
        {
          outPath = toString root;
          inherit fileset;
        };
    };

    # Packages.
    getExe = package: "${lib.getBin package}/bin/${package.meta.mainProgram or package.pname}";
    getExe' = package: name: "${lib.getBin package}/bin/${name}";
    getBin = package: package;
    getLib = package: package;
    makeSearchPath = folder: lib.concatMapStringsSep ":" (package: "${package}/${folder}");
    makeBinPath = lib.makeSearchPath "bin";
    getName = package: package.pname;
    getVersion = package: package.version;
    licenses = {
      asl20.spdxId = "Apache-2.0";
    };
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];

    # Messages.
    assertMsg = condition: message: if condition then true else throw message;
    warn = message: builtins.trace "warning: ${message}";
    trivial.release = "stub";

    inherit (import ./types.nix lib) types;
    inherit (import ./modules.nix lib)
      evalModules
      mergeDefinitions
      mkDefault
      mkEnableOption
      mkForce
      mkIf
      mkMerge
      mkOption
      mkOverride
      mkPackageOption
      literalExpression
      showOption
      ;
  };
in
lib
